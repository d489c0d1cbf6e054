"""Trials in this process, or in several processes of this machine."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgabench.errors import InputError
from sgabench.running.executors.quiet import Quiet
from sgabench.running.task import Task
from sgabench.store.locks import SHARES, shared
from sgabench.system.interruption import Terminated
from sgabench.system.processes import ignore_ctrl_c, start

if TYPE_CHECKING:
    from sgabench.running.worklist import WorkList

STOP_SECONDS = 4.0
# Between two looks at what other runs have claimed.
POLL_SECONDS = 1.0

Event = Any
OnEvent = Callable[[int, Task, Event], None]


class WorkerDied(RuntimeError):
    """A worker process ended in the middle of a trial."""


class Finished:
    """Event: the task is through."""


class Ready:
    """A worker has nothing to do: it has started, or is through with its task."""


@dataclass(frozen=True)
class Waiting:
    """A worker begins to wait for others that measure or compute, or ceases to."""

    begins: bool


def run_here(work: WorkList, results: Path, on_event: OnEvent) -> None:
    """Run tasks one after the other in this process.

    Args:
        work: where tasks come from.
        results: folder of the store.
        on_event: gets the worker's number (0), the task, and what `run_trial` emits, or `Finished`.
    """
    from sgabench.running.rehearsal import run_rehearsed

    quiet = Quiet(results)

    def emit(task: Task, event: Event) -> None:
        on_event(0, task, event)
        quiet.give_way()

    while work.open:
        task = work.take()
        if task is not None:
            with quiet.busy():
                run_rehearsed(task, partial(emit, task), quiet.alone)
            work.release(task)
            on_event(0, task, Finished())
        elif work.open:
            time.sleep(POLL_SECONDS)


def run_in_processes(
    work: WorkList,
    results: Path,
    on_event: OnEvent,
    jobs: int,
    plugins: Sequence[Path] = (),
    minutes: float | None = None,
) -> None:
    """Run tasks in worker processes; a worker that dies costs only what it was at.

    Args:
        work: where tasks come from.
        results: folder of the store.
        on_event: as in `run_here`, called in this process; for a task whose worker died it gets a
            `WorkerDied`, and then what comes of the rest of that task.
        jobs: number of workers.
        plugins: plugin files that each worker loads.
        minutes: a worker that takes longer for a task, but for waiting for others, is made to die.

    Raises:
        InputError: a worker cannot store what it made.
    """
    pool = _Pool(work, results, on_event, plugins, minutes)
    try:
        pool.hand_out(jobs)
        while work.open or pool.is_busy():
            pool.listen()
            pool.hand_out(jobs)
    finally:
        pool.stop()


@dataclass(eq=False)
class _Worker:
    """A worker process, as its parent sees it.

    Attributes:
        number: for listeners, below the number of jobs.
        process: the process.
        connection: to it.
        promised: a task that it is given first.
        ready: it has asked for a task at least once.
        task: what it is at.
        deadline: when its time for the task is over.
        seconds: that are left of it, while it waits for others.
        stopped: why it was made to stop.
    """

    number: int
    process: Any
    connection: Connection
    promised: Task | None = None
    ready: bool = False
    task: Task | None = None
    deadline: float = math.inf
    seconds: float = math.inf
    stopped: str = ""

    def is_idle(self) -> bool:
        return self.ready and self.task is None and not self.stopped


class _Pool:
    """The workers of a run."""

    def __init__(
        self, work: WorkList, results: Path, on_event: OnEvent, plugins: Sequence[Path], minutes: float | None
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._work = work
        self._results = results
        self._on_event = on_event
        self._plugins = list(plugins)
        self._minutes = minutes
        self._workers: dict[int, _Worker] = {}

    def is_busy(self) -> bool:
        """Whether a task is under way."""
        return any(worker.task or worker.promised for worker in self._workers.values())

    def hand_out(self, jobs: int) -> None:
        """Give every idle worker a task, and start workers for what is left."""
        idle = [worker for worker in self._workers.values() if worker.is_idle()]
        for worker in sorted(idle, key=lambda worker: worker.promised is None):
            task = worker.promised or self._work.take()
            if task is None:
                break
            self._hand(worker, task)
        unused = sum(1 for worker in self._workers.values() if not worker.task and not worker.promised)
        free = [number for number in range(jobs) if number not in self._workers]
        for number in free[: max(0, self._work.open - unused)]:
            self._start(number)

    def listen(self) -> None:
        """Wait for what workers tell, for the end of somebody's time, or for other runs."""
        idle = any(worker.is_idle() for worker in self._workers.values())
        until = min((worker.deadline for worker in self._workers.values()), default=math.inf)
        seconds = min(max(0.0, until - time.monotonic()), POLL_SECONDS if idle and self._work.open else math.inf)
        workers = {worker.connection: worker for worker in self._workers.values()}
        for connection in wait(list(workers), None if math.isinf(seconds) else seconds):
            assert isinstance(connection, Connection)
            self._receive(workers[connection])
        for worker in self._workers.values():
            if worker.deadline <= time.monotonic():
                worker.deadline = math.inf
                worker.stopped = f"--trial-timeout: not finished after {self._minutes:g} minutes"
                _stop([worker.process])  # what it still had to tell, and its end, are heard next

    def stop(self) -> None:
        """End all workers."""
        _stop([worker.process for worker in self._workers.values()])

    def _start(self, number: int, promised: Task | None = None) -> None:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, self._results, self._plugins), daemon=True)
        start(process)
        there.close()
        self._workers[number] = _Worker(number, process, here, promised)

    def _hand(self, worker: _Worker, task: Task) -> None:
        worker.task, worker.promised = task, None
        if self._minutes is not None:
            worker.deadline = time.monotonic() + 60 * self._minutes
        with contextlib.suppress(OSError):  # a worker that is dead already is noticed when it is listened to
            worker.connection.send(task)
            if SHARES:
                reduction.send_handle(worker.connection, self._work.claim(task), worker.process.pid)

    def _receive(self, worker: _Worker) -> None:
        try:
            event = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if isinstance(event, InputError):
            raise event
        if isinstance(event, Ready):
            worker.ready = True
            if worker.task is not None:
                self._finish(worker.number, worker.task)
                worker.task, worker.deadline = None, math.inf
        elif isinstance(event, Waiting):  # that is not the fault of its task
            if event.begins:
                worker.seconds, worker.deadline = worker.deadline - time.monotonic(), math.inf
            elif not worker.stopped:
                worker.deadline = time.monotonic() + worker.seconds
        else:
            assert worker.task is not None
            self._on_event(worker.number, worker.task, event)

    def _bury(self, worker: _Worker) -> None:
        worker.process.join()
        worker.connection.close()
        del self._workers[worker.number]
        task = worker.task or worker.promised
        if task is None and not worker.ready:
            task = self._work.take()  # what workers die of when they start must end sometime
        if task is None:
            return
        self._on_event(worker.number, task, WorkerDied(worker.stopped or _cause(worker.process.exitcode)))
        rest = self._work.rest(task)
        if rest is None:
            self._finish(worker.number, task)
        else:
            self._start(worker.number, rest)

    def _finish(self, number: int, task: Task) -> None:
        self._work.release(task)
        self._on_event(number, task, Finished())


def _stop(processes: Sequence[Any]) -> None:
    """Ask workers to stop, which write a snapshot first; do not wait long for it."""
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


def _work(connection: Connection, results: Path, plugins: list[Path]) -> None:
    """A worker: run what comes through the pipe until it is closed."""
    ignore_ctrl_c()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from sgabench.plugins.registry import load_plugin_file
    from sgabench.running.rehearsal import run_rehearsed

    def tell(event: Event) -> None:
        try:
            connection.send(event)
        except (BrokenPipeError, ConnectionResetError):  # there is nobody to work for: stop as if asked to
            signal.raise_signal(signal.SIGTERM)

    def emit(event: Event) -> None:
        tell(event)
        quiet.give_way()

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, Terminated):
        try:
            with shared(results) if SHARES else contextlib.nullcontext():
                for plugin in plugins:
                    load_plugin_file(plugin)
                quiet = Quiet(results, lambda begins: tell(Waiting(begins)))
                while True:
                    connection.send(Ready())
                    task = connection.recv()
                    with _sharing_claim(connection), quiet.busy():
                        run_rehearsed(task, emit, quiet.alone)
        except InputError as error:  # what no trial can go on after, such as a full disk
            connection.send(error)


@contextmanager
def _sharing_claim(connection: Connection) -> Iterator[None]:
    """Have a share in the claim of a trial: if the parent is killed, no other run has it before this process ends."""
    claim = reduction.recv_handle(connection) if SHARES else None
    try:
        yield
    finally:
        if claim is not None:
            os.close(claim)


def _end_with_parent() -> None:
    """Wait until the parent is gone; then let a training save itself, but not for long."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)
