"""Trials in this process, or in several processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgabench.errors import InputError
from sgabench.interruption import Terminated

if TYPE_CHECKING:
    from sgabench.trial import Task

# Long enough for what another worker may be in the middle of: an evaluation of the test split.
QUIET_TIMEOUT = 120.0
STOP_SECONDS = 4.0

Event = Any
OnEvent = Callable[[int, "Task", Event], None]


class WorkerDied(RuntimeError):
    """A worker process ended in the middle of a trial."""


class Finished:
    """Event: the task is through."""


def run_here(tasks: Sequence[Task], on_event: OnEvent) -> None:
    """Run tasks one after the other in this process.

    Args:
        tasks: trials.
        on_event: gets the worker's number (0), the task, and a record, a progress or `Finished`.
    """
    from sgabench.trial import run_trial

    for task in tasks:
        run_trial(task, partial(on_event, 0, task), lambda: contextlib.nullcontext(True))
        on_event(0, task, Finished())


def run_in_processes(tasks: Sequence[Task], jobs: int, plugins: Sequence[Path], on_event: OnEvent) -> None:
    """Run tasks in worker processes; a worker that dies costs its own trial only.

    Args:
        tasks: trials.
        jobs: number of workers.
        plugins: plugin files that each worker loads.
        on_event: as in `run_here`, called in this process; for a task whose worker died it gets a
            `WorkerDied`.

    Raises:
        InputError: a worker cannot store what it made.
    """
    context = multiprocessing.get_context("spawn")
    jobs = min(jobs, len(tasks))
    quiet = Quiet(context, jobs)
    waiting = deque(tasks)
    workers: dict[Connection, tuple[int, Any]] = {}
    running: dict[Connection, Task] = {}

    def start(number: int) -> None:
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, number, list(plugins), quiet), daemon=True)
        process.start()
        there.close()
        workers[here] = (number, process)
        hand_over(here)

    def hand_over(connection: Connection) -> None:
        if waiting:
            running[connection] = waiting.popleft()
            with contextlib.suppress(OSError):  # a worker that is dead already is noticed below
                connection.send(running[connection])
        else:
            workers.pop(connection)
            connection.close()

    try:
        for number in range(jobs):
            start(number)
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                number, process = workers[connection]
                try:
                    event = connection.recv()
                except (EOFError, OSError):
                    process.join()
                    quiet.bury(number)
                    on_event(number, running.pop(connection), WorkerDied(_cause(process.exitcode)))
                    del workers[connection]
                    if waiting:
                        start(number)
                    continue
                if isinstance(event, InputError):
                    raise event
                on_event(number, running[connection], event)
                if isinstance(event, Finished):
                    del running[connection]
                    hand_over(connection)
    finally:
        _stop([process for _, process in workers.values()])


def _stop(processes: Sequence[Any]) -> None:
    """Ask workers to stop, which write a snapshot first; do not wait long for it."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + STOP_SECONDS
    for process in processes:
        process.join(timeout=max(0.0, end - time.monotonic()))
        if process.is_alive():
            process.kill()


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the worker process was killed by {signal.Signals(-code).name}"
    return f"the worker process ended with exit code {code}"


def _work(connection: Connection, number: int, plugins: list[Path], quiet: Quiet) -> None:
    """A worker: run what comes through the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    from sgabench.registry import load_plugin_file
    from sgabench.trial import run_trial

    for plugin in plugins:
        load_plugin_file(plugin)

    def emit(event: Event) -> None:
        connection.send(event)
        quiet.give_way(number)

    # A pipe that ends means that the parent is gone: there is nobody to work for.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, Terminated):
        while True:
            task = connection.recv()
            with quiet.busy(number):
                try:
                    run_trial(task, emit, lambda: quiet.alone(number))
                except InputError as error:  # what no trial can go on after, such as a full disk
                    connection.send(error)
            connection.send(Finished())


class Quiet:
    """Lets one worker measure times while the others stand still.

    Every worker holds a lock of its own while it computes, and lets go of it for a moment whenever
    it emits an event, if somebody wants to be alone. Who wants to be alone takes them all.
    """

    def __init__(self, context: Any, workers: int) -> None:
        self._locks = [context.Lock() for _ in range(workers)]
        self._turn = context.Lock()
        self._owner = context.Value("i", -1, lock=False)
        self._taken = context.Array("b", workers, lock=False)  # by the owner
        self._wanted = context.Event()

    @contextmanager
    def busy(self, number: int) -> Iterator[None]:
        """Compute, as worker ``number``."""
        with self._locks[number]:
            yield

    def give_way(self, number: int) -> None:
        """Stand still for as long as another worker wants to be alone."""
        if self._wanted.is_set():
            with self._standing_still(number), self._turn:
                pass

    @contextmanager
    def alone(self, number: int) -> Iterator[bool]:
        """Wait until no other worker computes; gives False where one did not stop in time."""
        with self._standing_still(number), self._turn:
            self._owner.value = number
            self._wanted.set()
            try:
                for i, lock in enumerate(self._locks):
                    self._taken[i] = lock.acquire(timeout=QUIET_TIMEOUT)
                yield all(self._taken)
            finally:
                self._release_taken()
                self._wanted.clear()
                self._owner.value = -1

    @contextmanager
    def _standing_still(self, number: int) -> Iterator[None]:
        self._locks[number].release()
        try:
            yield
        finally:
            self._locks[number].acquire()

    def bury(self, number: int) -> None:
        """Release what a worker that died was holding."""
        if self._owner.value == number:
            self._release_taken()
            self._wanted.clear()
            self._owner.value = -1
            self._turn.release()
        else:
            # Nobody else holds it for long: free it, whether the dead worker had it or not.
            self._locks[number].acquire(block=False)
            self._locks[number].release()

    def _release_taken(self) -> None:
        for i, lock in enumerate(self._locks):
            if self._taken[i]:
                self._taken[i] = False
                lock.release()
