"""Trials one after the other in this process."""

from __future__ import annotations

import time
from pathlib import Path

from sgabench.running.executors.executor import Began, Event, Finished, OnEvent
from sgabench.running.executors.quiet import Quiet
from sgabench.running.task import Task
from sgabench.system.collecting import uncollected


class Here:
    """An executor that takes one task at a time, and runs it in `listen`.

    Args:
        results: folder of the store.
    """

    def __init__(self, results: Path) -> None:
        self._quiet = Quiet(results)
        self._task: Task | None = None

    @property
    def where(self) -> str:
        """This machine."""
        return ""

    def room(self) -> int:
        """One, or none."""
        return int(self._task is None)

    def submit(self, task: Task, claim: int) -> None:
        """Take a task."""
        self._task = task

    def listen(self, on_event: OnEvent, seconds: float) -> None:
        """Run the task to its end; without one, wait."""
        with uncollected():
            from sgabench.running.rehearsal import run_rehearsed

        task = self._task
        if task is None:
            time.sleep(seconds)
            return

        def emit(event: Event) -> None:
            on_event(0, task, event)
            self._quiet.give_way()

        on_event(0, task, Began())
        with self._quiet.busy():
            run_rehearsed(task, emit, self._quiet.alone)
        self._task = None
        on_event(0, task, Finished())

    def end(self, task: Task, cause: str) -> None:
        """Not possible: time limits need trials in other processes."""
        raise NotImplementedError  # never called: with a time limit, running/resources.py takes other processes

    def stop(self) -> None:
        """Nothing is running any more."""
