"""A Ray cluster: joined or started, measured, and left as it was."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from sgabench.errors import InputError, describe

# Seconds between two counts of the nodes, which may come and go.
COUNT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
EXTRA = "sgabench[ray]"


@dataclass(frozen=True)
class ClusterRequest:
    """A cluster, and the resources of each trial.

    Attributes:
        address: ``auto``, ``HOST:PORT``, or None: that of ``RAY_ADDRESS``, else Ray is started on this machine alone.
        cpus: of a trial, which is its number of threads.
        gpus: of a trial; with less than 1, several trials share a GPU.
    """

    address: str | None = None
    cpus: int = 1
    gpus: float = 0.0


def connect(request: ClusterRequest) -> Cluster:
    """Join a cluster, or start one; a program that has already joined one stays in it.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send usage statistics
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default, of which Ray warns
    try:
        import ray
    except ImportError:
        raise InputError(f"--executor ray needs the extra: pip install '{EXTRA}'") from None
    if ray.is_initialized():
        return Cluster(ray, joined=False)
    address = request.address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    _require_answer(address)
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises many kinds; kept as the cause, with its traceback
        raise InputError(
            f"--address {address}: no Ray cluster answers ({describe(error)}); on its first node: ray start --head"
        ) from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)  # Ray has replaced it
    return Cluster(ray, joined=True)


def _require_answer(address: str) -> None:
    """Try to connect to HOST:PORT for some seconds; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address {address}: nothing answers there ({describe(error)})") from None


class Cluster:
    """A cluster that this process has joined.

    Args:
        ray: the module.
        joined: whether `connect` joined it; then `leave` leaves it.
    """

    def __init__(self, ray: Any, joined: bool) -> None:
        self.ray = ray
        self._joined = joined
        self._nodes: list[dict[str, Any]] = []
        self._counted = -COUNT_SECONDS

    def actor_here(self, kind: type) -> Any:
        """An actor on this machine's node that takes no processor away from trials."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        return self.ray.remote(kind).options(num_cpus=0, scheduling_strategy=here, max_concurrency=1000).remote()

    def require(self, request: ClusterRequest) -> None:
        """Check that some node can take a trial.

        Raises:
            InputError: none can.
        """
        for option, name, asked in (("cpus", "CPU", request.cpus), ("gpus", "GPU", request.gpus)):
            most = max((node["Resources"].get(name, 0) for node in self._alive()), default=0)
            if asked > most:
                raise InputError(
                    f"--trial-{option} {asked:g}: no node of the cluster has that many {name}s; the maximum is {most:g}"
                )

    def slots(self, request: ClusterRequest) -> int:
        """How many trials the nodes can run at the same time."""
        return sum(fits(node["Resources"], request) for node in self._alive())

    def is_alive(self, node: str) -> bool:
        """Whether a node is alive; an unknown one is taken to be."""
        return not node or any(alive["NodeID"] == node for alive in self._alive())

    def description(self) -> str:
        """A description: nodes, processors and GPUs."""
        nodes = self._alive()
        parts = [f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}"]
        for name in ("CPU", "GPU"):
            number = sum(node["Resources"].get(name, 0) for node in nodes)
            parts += [f"{number:g} {name}{'s' if number != 1 else ''}"] if number else []
        return f"Ray: {', '.join(parts)}"

    def leave(self, actor: Any = None) -> None:
        """End an actor, and leave the cluster if `connect` joined it."""
        try:
            if actor is not None:
                self.ray.kill(actor)
        finally:
            if self._joined:
                self.ray.shutdown()

    def _alive(self) -> list[dict[str, Any]]:
        if time.monotonic() - self._counted >= COUNT_SECONDS:
            self._nodes = [node for node in self.ray.nodes() if node["Alive"]]
            self._counted = time.monotonic()
        return self._nodes


def fits(resources: dict[str, float], request: ClusterRequest) -> int:
    """How many trials a node can run at the same time."""
    trials = int(resources.get("CPU", 0) // request.cpus)
    if request.gpus >= 1:
        return min(trials, int(resources.get("GPU", 0) // request.gpus))
    if request.gpus:  # a trial cannot have parts of two GPUs
        return min(trials, int(resources.get("GPU", 0)) * int(1 / request.gpus + 1e-9))
    return trials
