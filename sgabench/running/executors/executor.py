"""The interface of executors, which take tasks and report their events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sgabench.running.task import Task

# Emitted by `run_trial`, or one of the classes below.
Event = Any
# Arguments: a worker's number, its task, and an event.
OnEvent = Callable[[int, Task, Event], None]


@dataclass(frozen=True)
class Began:
    """A worker begins a task; its time limit counts from here.

    Attributes:
        where: a description of the machine and device, if there are several; else empty.
        node: the cluster's identifier of the machine.
        environment: of the worker, as in `Record`, if this process does not know it.
    """

    where: str = ""
    node: str = ""
    environment: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Waiting:
    """A worker begins or ceases to wait for others that measure or compute."""

    begins: bool


class Finished:
    """A worker has finished its task."""


@dataclass(frozen=True)
class WorkerDied:
    """A worker ended in the middle of a task: the part that it was doing has failed.

    Attributes:
        cause: in words.
        environment: of the worker, as in `Record`; None: that of this process.
    """

    cause: str
    environment: Mapping[str, Any] | None = None


class Lost:
    """A worker was lost through no fault of its task, which will be run again."""


class Executor(Protocol):
    """Runs tasks: in this process, in others, or on other machines."""

    @property
    def where(self) -> str:
        """A description of its machines, if there are others than this one; else empty."""

    def room(self) -> int:
        """How many more tasks it can take now."""

    def submit(self, task: Task, claim: int) -> None:
        """Take a task.

        Args:
            task: of a trial that it is not running.
            claim: file descriptor of the trial's claim, for workers that can share it.
        """

    def listen(self, on_event: OnEvent, seconds: float) -> None:
        """Wait for events and report them.

        Every submitted task has an event `Began`, and finally one of `Finished`, `WorkerDied` and `Lost`.

        Raises:
            InputError: something that no trial can continue after, such as a full disk.
        """

    def end(self, task: Task, cause: str) -> None:
        """End the worker of a task, which saves its training if it can."""

    def stop(self) -> None:
        """End everything that is running; trainings are saved where possible."""
