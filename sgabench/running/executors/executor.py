"""What an executor is: something that takes tasks and tells what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sgabench.running.task import Task

# What `run_trial` emits, or one of the classes below.
Event = Any
# Gets a worker's number, the task that it is at, and an event.
OnEvent = Callable[[int, Task, Event], None]


@dataclass(frozen=True)
class Began:
    """A worker begins with a task, and with the time that it may take.

    Attributes:
        where: the machine and its device, in words, if there are several; else empty.
        node: the machine, by what its cluster calls it.
        environment: that the worker works in, as in `Record`, if this process cannot tell.
    """

    where: str = ""
    node: str = ""
    environment: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Waiting:
    """A worker begins to wait for others that measure or compute, or ceases to."""

    begins: bool


class Finished:
    """A worker is through with its task."""


@dataclass(frozen=True)
class WorkerDied:
    """A worker ended in the middle of a task: what it was at has failed.

    Attributes:
        cause: in words.
        environment: that it worked in, as in `Record`; None: that of this process.
    """

    cause: str
    environment: Mapping[str, Any] | None = None


class Lost:
    """A worker is gone by no fault of its task, which is to be done again."""


class Executor(Protocol):
    """Runs tasks: in this process, in others, or on other machines."""

    @property
    def where(self) -> str:
        """What it consists of, in words, if that is more than this machine; else empty."""

    def room(self) -> int:
        """How many more tasks it takes now."""

    def submit(self, task: Task, claim: int) -> None:
        """Take a task.

        Args:
            task: of a trial that it is not at.
            claim: file descriptor of the trial's claim, for who can have a share in it.
        """

    def listen(self, on_event: OnEvent, seconds: float) -> None:
        """Wait for something to happen and tell it.

        Every task that was submitted has `Began` told of it, and in the end one of `Finished`, `WorkerDied` and `Lost`.

        Raises:
            InputError: what no trial can go on after, such as a full disk.
        """

    def end(self, task: Task, cause: str) -> None:
        """Make the worker of a task die; it saves a training if it can."""

    def stop(self) -> None:
        """Let go of everything, whatever is under way; a training that can be saved is."""
