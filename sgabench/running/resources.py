"""The resources of a run: device, threads, trials at the same time, and the executor."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from sgabench.errors import InputError
from sgabench.plugins.sending import contents_of
from sgabench.running.executors.executor import Executor
from sgabench.running.executors.here import Here
from sgabench.running.executors.processes import Processes
from sgabench.running.executors.ray_cluster import ClusterRequest
from sgabench.running.options import Options
from sgabench.suite.plan import TrialPlan
from sgabench.system.environment import choose_device, cores
from sgabench.system.source import code_hash

MOST_ON_A_GPU = 16


def device_of(options: Options) -> str:
    """The device of trials: ``cpu`` or ``cuda``.

    Raises:
        InputError: CUDA was asked for and is not available.
    """
    if options.ray is not None:
        return "cuda" if options.ray.gpus else "cpu"
    return choose_device(options.device)


def threads_of(options: Options) -> int:
    """The number of threads of a trial.

    It does not depend on what is left to do or on a measurement: a continued run must give the same bits.
    """
    if options.ray is not None:
        return options.ray.cpus
    jobs = options.jobs if options.jobs != "auto" else _most_at_once(device_of(options), _gpus())
    return max(1, cores() // jobs)


def certain_jobs(options: Options) -> int:
    """Trials certain to run at the same time on this machine: on a GPU, ``auto`` tries out how many fit."""
    if options.ray is not None:
        return 0
    if options.jobs != "auto":
        return options.jobs
    device = device_of(options)
    return len(_gpus()) if device == "cuda" else _most_at_once(device)


def cluster_request(
    executor: str, device: str, jobs: int | str, address: str | None, cpus: int | None, gpus: float | None
) -> ClusterRequest | None:
    """The Ray cluster that the options ask for; None: trials run on this machine.

    Raises:
        InputError: options that conflict, or numbers out of range.
    """
    if executor not in ("local", "ray"):
        raise InputError(f"--executor {executor}: must be local or ray")
    if executor == "local":
        for option, given in (("address", address), ("trial-cpus", cpus), ("trial-gpus", gpus)):
            if given is not None:
                raise InputError(f"--{option} {given}: is for Ray clusters; add --executor ray")
        return None
    if jobs != 1:
        raise InputError(f"--jobs {jobs}: on Ray, --trial-cpus and --trial-gpus say how many trials a node takes")
    if cpus is not None and cpus < 1:
        raise InputError(f"--trial-cpus {cpus}: must be an integer, at least 1")
    if gpus is None:
        gpus = 1.0 if device == "cuda" else 0.0
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)) or not math.isfinite(gpus):
        raise InputError(f"--trial-gpus {gpus:g}: must be a fraction of 1, or an integer")
    if device != "auto" and (device == "cuda") != (gpus > 0):
        raise InputError(f"--trial-gpus {gpus:g}: conflicts with --device {device}; leave one of them out")
    return ClusterRequest(address, cpus or 1, gpus)


def make_executor(left: Sequence[TrialPlan], options: Options) -> Executor:
    """The executor that the options ask for.

    Args:
        left: the trials that it will run.
        options: of the run.
    """
    if options.ray is not None:
        return _on_ray(options.ray, options)
    jobs = options.jobs if options.jobs != "auto" else _best_number(left, options)
    # Processes are used if they were asked for, however little is left: a plugin's side effects stay inside them.
    if jobs == 1 and options.trial_minutes is None:
        return Here(options.results)
    gpus = _gpus() if device_of(options) == "cuda" else []
    return Processes(options.results, jobs, options.plugins, gpus if len(gpus) > 1 else [])


def _on_ray(request: ClusterRequest, options: Options) -> Executor:
    from sgabench.running.executors.on_ray import OnRay
    from sgabench.running.executors.ray_worker import Setup

    plugins = tuple((path.name, contents_of(path)) for path in options.plugins)
    variables = {name: value for name, value in os.environ.items() if name.startswith("SGABENCH_")}
    shared = options.storage is not None
    return OnRay(request, options.results, shared, Setup(plugins, variables, code_hash(), str(Path.cwd())))


def _most_at_once(device: str, gpus: Sequence[str] = ("0",)) -> int:
    """The most trials at the same time that ``auto`` may choose."""
    return MOST_ON_A_GPU * len(gpus) if device == "cuda" else cores()


def _gpus() -> list[str]:
    """The GPUs of this machine that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; at least one."""
    import torch

    number = max(1, torch.cuda.device_count())
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:number] if len(named) >= number else [str(place) for place in range(number)]


def _best_number(left: Sequence[TrialPlan], options: Options) -> int:
    """One trial per core; on each GPU, as many as train fastest together with the most demanding model."""
    device = device_of(options)
    gpus = _gpus() if device == "cuda" else [""]
    limit = min(_most_at_once(device), math.ceil(len(left) / len(gpus)))
    if device != "cuda" or limit == 1:
        return min(limit * len(gpus), len(left))
    from sgabench.running.sharing import best_number, workloads

    best = min((best_number(work, device, limit) for work in workloads(left, options)), default=limit)
    return min(best * len(gpus), len(left))
