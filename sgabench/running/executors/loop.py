"""The one loop for all executors: from the work list to the executor and back, until nothing is left."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sgabench.running.executors.executor import Began, Event, Executor, Finished, Lost, OnEvent, Waiting, WorkerDied
from sgabench.running.task import Task
from sgabench.running.worklist import WorkList

# Seconds between two looks at what other runs have claimed.
POLL_SECONDS = 1.0


def run_tasks(
    work: WorkList,
    executor: Executor,
    on_event: OnEvent,
    minutes: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Hand out all work and report what becomes of it, until nothing is left.

    Args:
        work: where tasks come from.
        executor: where they run; it is stopped at the end.
        on_event: receives all events of the executor except `Lost` and `Waiting`; for a task whose worker died,
            `WorkerDied`, and then the events of the rest of that task.
        minutes: a worker that takes longer for a task, apart from waiting for others, is ended.
        clock: seconds.

    Raises:
        InputError: something that no trial can continue after, such as a full disk.
    """
    loop = _Loop(work, executor, on_event, minutes, clock)
    try:
        loop.hand_out()
        while work.open or loop.is_busy():
            loop.listen()
            loop.hand_out()
    finally:
        executor.stop()


@dataclass(eq=False)
class _Running:
    """A task that was handed out.

    Attributes:
        task: as it was handed out.
        whole: whether no worker was lost during it.
        began: when its worker began, later by the time that it has waited for others.
        waits: since when it has been waiting for others.
        deadline: when its time is over; infinite if it was ended.
    """

    task: Task
    whole: bool = True
    began: float = 0.0
    waits: float | None = None
    deadline: float = math.inf


class _Loop:
    def __init__(
        self,
        work: WorkList,
        executor: Executor,
        on_event: OnEvent,
        minutes: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._work = work
        self._executor = executor
        self._on_event = on_event
        self._minutes = minutes
        self._clock = clock
        self._again: deque[Task] = deque()  # the rest of tasks whose workers are gone
        self._running: dict[str, _Running] = {}

    def is_busy(self) -> bool:
        """Whether a task is running, or has to be run again."""
        return bool(self._running or self._again)

    def hand_out(self) -> None:
        """Fill the executor."""
        for _ in range(self._executor.room()):
            whole = not self._again
            task = self._work.take() if whole else self._again.popleft()
            if task is None:
                return
            self._running[task.trial.key] = _Running(task, whole)
            self._executor.submit(task, self._work.claim(task))

    def listen(self) -> None:
        """Wait for events of tasks, for a time limit, or for other runs."""
        seconds = POLL_SECONDS if self._work.open and self._executor.room() else math.inf
        until = min((running.deadline for running in self._at_work()), default=math.inf) if self._minutes else math.inf
        self._executor.listen(self._tell, min(seconds, max(0.0, until - self._clock())))
        if self._minutes:
            for running in self._at_work():
                if running.deadline <= self._clock():
                    running.deadline = math.inf
                    cause = f"--trial-timeout: not finished after {self._minutes:g} minutes"
                    self._executor.end(running.task, cause)  # its remaining events and its end are reported next

    def _at_work(self) -> list[_Running]:
        return [running for running in self._running.values() if running.waits is None]

    def _tell(self, worker: int, task: Task, event: Event) -> None:
        running = self._running[task.trial.key]
        now = self._clock()
        if isinstance(event, Waiting):  # that time does not count against its task
            if event.begins:
                running.waits = now
            elif running.waits is not None:
                waited, running.waits = now - running.waits, None
                running.began, running.deadline = running.began + waited, running.deadline + waited
            return
        if isinstance(event, Began):
            running.began = now
            running.deadline = math.inf if self._minutes is None else now + 60 * self._minutes
        if not isinstance(event, Finished | Lost):
            self._on_event(worker, task, event)
        if isinstance(event, WorkerDied | Lost):
            del self._running[task.trial.key]
            rest = self._work.rest(task)
            if rest is not None:
                self._again.append(rest)
                return
        elif isinstance(event, Finished):
            del self._running[task.trial.key]
            if running.whole:
                self._work.took(task, now - running.began)
        else:
            return
        self._work.release(task)
        self._on_event(worker, task, Finished())
