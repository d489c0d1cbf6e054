"""From a list of work to an executor and back, until nothing is left: the one loop for all executors."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sgabench.running.executors.executor import Began, Event, Executor, Finished, Lost, OnEvent, Waiting, WorkerDied
from sgabench.running.task import Task
from sgabench.running.worklist import WorkList

# Between two looks at what other runs have claimed.
POLL_SECONDS = 1.0


def run_tasks(
    work: WorkList,
    executor: Executor,
    on_event: OnEvent,
    minutes: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Hand out what there is to do, and store what comes of it, until nothing is left.

    Args:
        work: where tasks come from.
        executor: where they run; it is stopped in the end.
        on_event: is told all that the executor tells but `Lost` and `Waiting`; for a task whose worker died, a
            `WorkerDied`, and then what comes of the rest of that task.
        minutes: a worker that takes longer for a task, but for waiting for others, is made to die.
        clock: seconds.

    Raises:
        InputError: what no trial can go on after, such as a full disk.
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
        task: as it was.
        whole: no worker was lost at it.
        began: when its worker began; the time in which it waited for others is added.
        waits: since when it waits for others.
        deadline: when its time is over; never, if it was made to end.
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
        self._again: deque[Task] = deque()  # what is left of tasks whose workers are gone
        self._running: dict[str, _Running] = {}

    def is_busy(self) -> bool:
        """Whether something is under way, or to be done again."""
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
        """Wait for what becomes of tasks, for the end of somebody's time, or for other runs."""
        seconds = POLL_SECONDS if self._work.open and self._executor.room() else math.inf
        until = min((running.deadline for running in self._at_work()), default=math.inf) if self._minutes else math.inf
        self._executor.listen(self._tell, min(seconds, max(0.0, until - self._clock())))
        if self._minutes:
            for running in self._at_work():
                if running.deadline <= self._clock():
                    running.deadline = math.inf
                    cause = f"--trial-timeout: not finished after {self._minutes:g} minutes"
                    self._executor.end(running.task, cause)  # what it still has to tell, and its end, are heard next

    def _at_work(self) -> list[_Running]:
        return [running for running in self._running.values() if running.waits is None]

    def _tell(self, worker: int, task: Task, event: Event) -> None:
        running = self._running[task.trial.key]
        now = self._clock()
        if isinstance(event, Waiting):  # that is not the fault of its task
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
