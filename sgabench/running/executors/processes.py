"""Trials in several processes on this machine."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from sgabench.errors import InputError
from sgabench.running.executors.executor import Began, Event, Finished, OnEvent, Waiting, WorkerDied
from sgabench.running.executors.quiet import Quiet
from sgabench.running.task import Task
from sgabench.store.locks import SHARES, shared
from sgabench.system.collecting import leave_at_once, uncollected
from sgabench.system.interruption import Terminated
from sgabench.system.processes import ignore_ctrl_c, start

STOP_SECONDS = 4.0


class Ready:
    """A worker is idle: it has started, or finished its task."""


@dataclass(eq=False)
class _Worker:
    """A worker process, as its parent sees it.

    Attributes:
        number: for listeners, below the number of jobs.
        process: the process.
        connection: to it.
        ready: whether it has asked for a task at least once.
        task: that it runs, or will be given as soon as it has started.
        claim: of the task.
        stopped: why it was stopped.
    """

    number: int
    process: Any
    connection: Connection
    ready: bool = False
    task: Task | None = None
    claim: int = -1
    stopped: str = ""


class Processes:
    """An executor with worker processes; if one dies, only the part that it was running is lost.

    A process is started when a task finds no idle one, and kept.

    Args:
        results: folder of the store.
        jobs: number of workers.
        plugins: plugin files that each worker loads.
        gpus: as ``CUDA_VISIBLE_DEVICES`` names them, if there are several: workers are divided among them.
    """

    def __init__(self, results: Path, jobs: int, plugins: Sequence[Path] = (), gpus: Sequence[str] = ()) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._results = results
        self._jobs = jobs
        self._plugins = list(plugins)
        self._gpus = list(gpus)
        self._workers: dict[int, _Worker] = {}
        self._begun: list[tuple[int, Task]] = []  # still to be reported

    @property
    def where(self) -> str:
        """This machine."""
        return ""

    def room(self) -> int:
        """As many as there are workers without a task, started or not."""
        return self._jobs - sum(1 for worker in self._workers.values() if worker.task or worker.stopped)

    def submit(self, task: Task, claim: int) -> None:
        """Give a task to an idle worker, or to a new one."""
        idle = (worker for worker in self._workers.values() if not (worker.task or worker.stopped))
        free = next(idle, None)
        if free is None:
            free = self._start(next(number for number in range(self._jobs) if number not in self._workers))
        free.task, free.claim = task, claim
        if free.ready:
            self._hand(free)

    def listen(self, on_event: OnEvent, seconds: float) -> None:
        """Report the events of workers."""
        if not self._workers:
            time.sleep(seconds)
            return
        if self._begun:
            self._report_begun(on_event)
            return
        workers = {worker.connection: worker for worker in self._workers.values()}
        for connection in wait(list(workers), None if math.isinf(seconds) else seconds):
            assert isinstance(connection, Connection)
            self._receive(workers[connection], on_event)

    def end(self, task: Task, cause: str) -> None:
        """Stop the worker that runs a task."""
        worker = next(worker for worker in self._workers.values() if worker.task is task)
        worker.stopped = cause
        _stop([worker.process])

    def stop(self) -> None:
        """End all workers."""
        _stop([worker.process for worker in self._workers.values()])

    def _start(self, number: int) -> _Worker:
        here, there = self._context.Pipe()
        gpu = self._gpus[number % len(self._gpus)] if self._gpus else None
        process = self._context.Process(target=_work, args=(there, self._results, self._plugins, gpu), daemon=True)
        start(process)
        there.close()
        self._workers[number] = worker = _Worker(number, process, here)
        return worker

    def _hand(self, worker: _Worker) -> None:
        assert worker.task is not None
        self._begun.append((worker.number, worker.task))
        with contextlib.suppress(OSError):  # a dead worker is noticed in `listen`
            worker.connection.send(worker.task)
            if SHARES:
                reduction.send_handle(worker.connection, worker.claim, worker.process.pid)

    def _report_begun(self, on_event: OnEvent) -> None:
        while self._begun:
            on_event(*self._begun.pop(0), Began())

    def _receive(self, worker: _Worker, on_event: OnEvent) -> None:
        try:
            event = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker, on_event)
            return
        if isinstance(event, InputError):
            raise event
        if not isinstance(event, Ready):
            assert worker.task is not None
            on_event(worker.number, worker.task, event)
        elif worker.ready:
            assert worker.task is not None
            task, worker.task = worker.task, None
            on_event(worker.number, task, Finished())
        else:
            worker.ready = True
            if worker.task is not None:
                self._hand(worker)
                self._report_begun(on_event)

    def _bury(self, worker: _Worker, on_event: OnEvent) -> None:
        worker.process.join()
        worker.connection.close()
        del self._workers[worker.number]
        if worker.task is not None:  # also if it died at its start: otherwise workers would be started again and again
            on_event(worker.number, worker.task, WorkerDied(worker.stopped or _cause(worker.process.exitcode)))


def _stop(processes: Sequence[Any]) -> None:
    """Ask workers to stop, with a short time for a snapshot."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + STOP_SECONDS
    for process in processes:
        process.join(timeout=max(0.0, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the worker process was killed by {signal.Signals(-code).name}"
    return f"the worker process ended with exit code {code}"


def _work(connection: Connection, results: Path, plugins: list[Path], gpu: str | None) -> None:
    """A worker: run what comes through the pipe until it is closed."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # CUDA reads it at its first use
    ignore_ctrl_c()
    leave_at_once()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with uncollected():
        from sgabench.plugins.registry import load_plugin_file
        from sgabench.running.rehearsal import run_rehearsed

    def on_event(event: Event) -> None:
        try:
            connection.send(event)
        except (BrokenPipeError, ConnectionResetError):  # the parent is gone: stop as if asked to
            signal.raise_signal(signal.SIGTERM)

    def emit(event: Event) -> None:
        on_event(event)
        quiet.give_way()

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, Terminated):
        try:
            with shared(results) if SHARES else contextlib.nullcontext():
                for plugin in plugins:
                    load_plugin_file(plugin)
                quiet = Quiet(results, lambda begins: on_event(Waiting(begins)))
                while True:
                    connection.send(Ready())
                    task = connection.recv()
                    with _sharing_claim(connection), quiet.busy():
                        run_rehearsed(task, emit, quiet.alone)
        except InputError as error:  # no trial can continue after it: a full disk, for example
            connection.send(error)


@contextmanager
def _sharing_claim(connection: Connection) -> Iterator[None]:
    """Share the claim of a trial: if the parent is killed, no other run gets it before this process ends."""
    claim = reduction.recv_handle(connection) if SHARES else None
    try:
        yield
    finally:
        if claim is not None:
            os.close(claim)


def _end_with_parent() -> None:
    """Wait until the parent is gone; then give a training a short time to save itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)
