"""Trials as Ray tasks, on this machine or the nodes of a cluster."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgabench.errors import InputError, describe
from sgabench.running.executors import ray_cluster
from sgabench.running.executors.executor import Began, Event, Finished, Lost, OnEvent, WorkerDied
from sgabench.running.executors.processes import STOP_SECONDS
from sgabench.running.executors.ray_cluster import ClusterRequest
from sgabench.running.executors.ray_worker import Inbox, Setup, Warned, Written, run_on_worker
from sgabench.running.task import Task
from sgabench.store.files import Folder
from sgabench.store.store import Record, snapshot_name, weights_name

# Seconds between two looks at the state of silent tasks.
LOOK_SECONDS = 0.5
# A worker on a live node may have died of something other than the part of the trial that it was running, once.
MOST_CRASHES = 2
_logger = logging.getLogger("sgabench")


@dataclass(eq=False)
class _Attempt:
    """A task submitted to Ray.

    Attributes:
        task: the task.
        ref: of its result.
        worker: number for listeners; None before it has begun.
        node: where it runs.
        environment: of its worker.
        stopped: why it was stopped.
    """

    task: Task
    ref: Any
    worker: int | None = None
    node: str = ""
    environment: Mapping[str, Any] | None = None
    stopped: str = ""


class OnRay:
    """An executor that lets Ray place trials; all results come back through this process.

    Args:
        request: the cluster, and the resources of a trial.
        results: folder of the store.
        shared: whether workers can access the files of tasks themselves; otherwise these are sent.
        setup: common to all tasks.

    Raises:
        InputError: there is no such cluster, or none of its nodes is large enough.
    """

    def __init__(self, request: ClusterRequest, results: Path, shared: bool, setup: Setup) -> None:
        self._files = None if shared else Folder(results)
        self._request = request
        self._cluster = ray_cluster.connect(request)
        ray = self._cluster.ray
        try:
            self._cluster.require(request)
            self._inbox = self._cluster.actor_here(Inbox)
            self._setup = ray.put(setup)
            resources = {"num_cpus": request.cpus, "num_gpus": request.gpus, "max_retries": 0}
            self._remote = ray.remote(run_on_worker).options(**resources)
        except BaseException:
            self._cluster.leave()
            raise
        self._data: dict[str, Any] = {}
        self._attempts: dict[int, _Attempt] = {}
        self._crashes: Counter[str] = Counter()  # by trial and part
        self._number = 0
        self._looked = 0.0

    @property
    def where(self) -> str:
        """A description of the cluster."""
        return self._cluster.description()

    def room(self) -> int:
        """The capacity of the cluster plus a tenth, so that no node waits for this process."""
        slots = self._cluster.slots(self._request)
        return slots + max(1, slots // 10) - len(self._attempts)

    def submit(self, task: Task, claim: int) -> None:
        """Submit a task to Ray."""
        given = None
        if self._files is not None:
            names = (weights_name(task.trial.key), snapshot_name(task.trial.key))
            given = {name: content for name in names if (content := self._files.read(name)) is not None}
        self._number += 1
        ref = self._remote.remote(self._inbox, self._number, task, self._setup, self._images(task), given)
        self._attempts[self._number] = _Attempt(task, ref)

    def listen(self, on_event: OnEvent, seconds: float) -> None:
        """Report the events of workers, and the end of those that send no more."""
        ray = self._cluster.ray
        for number, event in ray.get(self._inbox.take.remote(min(seconds, LOOK_SECONDS))):
            self._receive(number, event, on_event)
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        over: dict[int, BaseException | None] = dict.fromkeys(self._stranded())
        over |= {number: problem for number in self._over() if (problem := self._problem(number)) is not None}
        if over:  # their last events come first
            for number, event in ray.get(self._inbox.take.remote(0)):
                self._receive(number, event, on_event)
        for number, problem in over.items():
            if number in self._attempts:
                self._bury(number, problem, on_event)
        self._looked = time.monotonic()

    def end(self, task: Task, cause: str) -> None:
        """Ask the worker of a task to stop, with a short grace period."""
        number = next(number for number, attempt in self._attempts.items() if attempt.task is task)
        self._attempts[number].stopped = cause
        self._cancel([number])

    def stop(self) -> None:
        """Cancel running tasks, store the snapshots that they send, and leave the cluster as it was."""
        try:
            self._cancel(list(self._attempts))
        finally:
            self._cluster.leave(self._inbox)

    def _receive(self, number: int, event: Event, on_event: OnEvent) -> None:
        attempt = self._attempts.get(number)
        if attempt is None:  # it was given up, and its trial is run elsewhere
            return
        if isinstance(event, InputError):
            raise event
        if isinstance(event, Written):
            self._write(event)
            return
        if isinstance(event, Warned):
            _logger.warning("%s", event.text)
            return
        if isinstance(event, Began):
            attempt.worker, attempt.node, attempt.environment = self._free(), event.node, event.environment
        if isinstance(event, Record):
            self._crashes.pop(attempt.task.trial.key, None)
        if isinstance(event, Finished | Lost):
            del self._attempts[number]
        if isinstance(event, Lost) and attempt.stopped:
            event = WorkerDied(attempt.stopped, attempt.environment)
        on_event(self._number_of(attempt), attempt.task, event)

    def _write(self, written: Written) -> None:
        assert self._files is not None
        try:
            if written.content is None:
                self._files.remove(written.name)
            else:
                self._files.write(written.name, written.content)
        except OSError as error:
            message = f"{self._files.where(written.name)}: cannot write: {error.strerror or error}"
            raise InputError(f"{message}; fix that and run again") from None

    def _stranded(self) -> list[int]:
        """Tasks on nodes that the cluster has lost, whose workers may not know it yet."""
        numbers = [number for number, attempt in self._attempts.items() if not self._cluster.is_alive(attempt.node)]
        for number in numbers:
            self._cluster.ray.cancel(self._attempts[number].ref, force=True, recursive=False)
        return numbers

    def _over(self) -> list[int]:
        """Tasks that have ended for Ray but have not reported that they finished."""
        refs = {attempt.ref: number for number, attempt in self._attempts.items()}
        ready, _ = self._cluster.ray.wait(list(refs), num_returns=len(refs), timeout=0) if refs else ([], [])
        return [refs[ref] for ref in ready]

    def _problem(self, number: int) -> BaseException | None:
        """Why an ended task did not finish; None: it did, and its last event is on the way."""
        try:
            self._cluster.ray.get(self._attempts[number].ref)
        except Exception as error:  # Ray's own, or one that wraps the task's
            return error
        return None

    def _bury(self, number: int, problem: BaseException | None, on_event: OnEvent) -> None:
        attempt = self._attempts.pop(number)
        worker, key = self._number_of(attempt), attempt.task.trial.key
        if attempt.stopped:
            on_event(worker, attempt.task, WorkerDied(attempt.stopped, attempt.environment))
        elif problem is None or not self._cluster.is_alive(attempt.node):
            on_event(worker, attempt.task, Lost())
        else:
            self._crashes[key] += 1
            again = self._crashes[key] < MOST_CRASHES
            died = WorkerDied(f"the worker process of Ray died: {describe(problem)}", attempt.environment)
            on_event(worker, attempt.task, Lost() if again else died)

    def _cancel(self, numbers: list[int]) -> None:
        """Cancel tasks, with a short time for trainings to save themselves."""
        ray = self._cluster.ray
        for number in numbers:
            ray.cancel(self._attempts[number].ref, recursive=False)  # its last events should still arrive
        until = time.monotonic() + STOP_SECONDS
        left = set(numbers)
        while left and time.monotonic() < until:
            for number, event in ray.get(self._inbox.take.remote(0.1)):
                if isinstance(event, Written) and number in self._attempts:
                    self._write(event)
            left -= set(self._over())
        for number in left:
            ray.cancel(self._attempts[number].ref, force=True, recursive=False)

    def _free(self) -> int:
        """The lowest number without a worker."""
        taken = {attempt.worker for attempt in self._attempts.values()}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _number_of(self, attempt: _Attempt) -> int:
        if attempt.worker is None:
            attempt.worker = self._free()
        return attempt.worker

    def _images(self, task: Task) -> Any:
        """A task's data set in Ray's object store, fetched once per node; None: the node loads it itself."""
        from sgabench.training.building import load_data
        from sgabench.training.data import packed

        identity = json.dumps(task.trial.dataset.identity(), sort_keys=True)
        if identity not in self._data:
            try:
                data = load_data(task.trial.dataset, task.data_dir, task.download, "cpu")
                self._data[identity] = None if data.is_streamed else self._cluster.ray.put(packed(data))
            except Exception:  # a plugin's, raised again in the trial, which keeps the traceback
                self._data[identity] = None
        return self._data[identity]
