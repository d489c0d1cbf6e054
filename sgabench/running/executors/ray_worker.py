"""Runs a trial in a Ray worker, and sends its events to an inbox on the node of the run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sgabench.errors import InputError
from sgabench.running.executors.executor import Began, Event, Finished, Lost, Waiting
from sgabench.running.executors.quiet import Quiet
from sgabench.running.task import Task
from sgabench.store.locks import SHARES
from sgabench.system.interruption import Terminated, terminable
from sgabench.system.source import code_hash
from sgabench.system.threads import wait_politely

# Seconds between two events that only report a training's progress: a thousand workers share an inbox.
PROGRESS_SECONDS = 2.0

# Plugin files, in folders that last as long as this process: plugins may read files beside them when called.
_loaded: dict[str, tempfile.TemporaryDirectory[str]] = {}


@dataclass(frozen=True)
class Setup:
    """What all tasks of a run have in common.

    Attributes:
        plugins: name of each plugin file, and the contents of all files that come with it, by path.
        variables: environment variables that numbers may depend on.
        code: hash of sgabench's own code.
        folder: in which the run was started.
    """

    plugins: tuple[tuple[str, Mapping[str, bytes]], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Written:
    """Event: a file to write (None: remove) among the files of the run."""

    name: str
    content: bytes | None


@dataclass(frozen=True)
class Warned:
    """Event: a warning, to be shown by the run."""

    text: str


class _Warnings(logging.Handler):
    """Sends warnings to the run, because nobody would see them here."""

    def __init__(self, send: Callable[[Event], None]) -> None:
        super().__init__(logging.WARNING)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one."""
        self._send(Warned(record.getMessage()))


class Inbox:
    """An actor that keeps the events of workers until the run takes them."""

    def __init__(self) -> None:
        self._events: list[tuple[int, Event]] = []
        self._there = asyncio.Event()

    async def put(self, number: int, event: Event) -> None:
        """Add an event of the task with that number."""
        self._events.append((number, event))
        self._there.set()

    async def take(self, seconds: float) -> list[tuple[int, Event]]:
        """All events so far, in order; if there are none, wait for one for a limited time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._there.wait(), seconds)
        events, self._events = self._events, []
        self._there.clear()
        return events


class SentFiles:
    """The files of a task that the run keeps: existing ones are given, written ones are sent.

    Args:
        given: content by name.
        send: takes `Written`.
    """

    def __init__(self, given: Mapping[str, bytes], send: Callable[[Event], None]) -> None:
        self._given = dict(given)
        self._send = send

    def where(self, name: str) -> str:
        """Just the name: the path is on another machine."""
        return name

    def read(self, name: str) -> bytes | None:
        """A given file; None for files written since, which nobody reads."""
        return self._given.get(name)

    def write(self, name: str, content: bytes) -> None:
        """Send a file and wait until it has arrived."""
        self._given.pop(name, None)
        self._send(Written(name, content))

    def remove(self, name: str) -> None:
        """Have a file removed."""
        self._given.pop(name, None)
        self._send(Written(name, None))


def run_on_worker(
    inbox: Any,
    number: int,
    task: Task,
    setup: Setup,
    images: Mapping[str, Any] | None,
    given: Mapping[str, bytes] | None,
) -> None:
    """Run a task in this process, which belongs to Ray.

    Args:
        inbox: handle of an `Inbox`.
        number: of the task, for the inbox.
        task: the task.
        setup: of the run.
        images: the data set, as returned by `packed`; None: the task loads it here.
        given: weights and snapshots of the run; None: the task's files can be accessed from here.
    """

    def send(event: Event) -> None:
        # Not with ray.get, which would give this task's processors to another one while it waits.
        inbox.put.remote(number, event).future().result()

    warnings = _Warnings(send)
    logging.getLogger("sgabench").addHandler(warnings)
    try:
        _prepare(setup)
        import ray

        from sgabench.running.rehearsal import run_rehearsed
        from sgabench.system.environment import describe_environment
        from sgabench.training.building import give_data
        from sgabench.training.data import unpacked

        if images is not None:
            give_data(task.trial.dataset, unpacked(images))
        if given is not None:
            task = replace(task, files=SentFiles(given, send))
        quiet = Quiet(_folder_of_this_machine(), lambda begins: send(Waiting(begins)))
        emit = _Emitting(send, quiet)
        with terminable():
            node = ray.get_runtime_context().get_node_id()
            send(Began(_where(), node, describe_environment(task.device, task.threads)))
            with quiet.busy():
                run_rehearsed(task, emit, quiet.alone)
        send(Finished())
    except InputError as error:  # no trial can continue after it
        send(error)
    except Terminated:  # the machine is being taken away; the training has been saved
        send(Lost())
        sys.exit(1)
    finally:
        logging.getLogger("sgabench").removeHandler(warnings)


class _Emitting:
    """Sends the events of a trial, but not every step of its progress."""

    def __init__(self, send: Callable[[Event], None], quiet: Quiet) -> None:
        from sgabench.training.progress import Progress

        self._progress = Progress
        self._send = send
        self._quiet = quiet
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if not isinstance(event, self._progress) or now - self._last >= PROGRESS_SECONDS:
            self._last = now
            self._send(event)
        self._quiet.give_way()


def _prepare(setup: Setup) -> None:
    """Set up this process for a run."""
    wait_politely()
    os.environ.update(setup.variables)
    if code_hash() != setup.code:
        raise InputError(
            f"--executor ray: {_where()} has different sgabench code from this machine; install the same on every node"
        )
    from sgabench.plugins.registry import load_plugin_file

    # Ray lets its workers import from there; modules that came with a plugin would exist twice.
    sys.path[:] = [place for place in sys.path if place != setup.folder]
    for number, (name, contents) in enumerate(setup.plugins):
        if f"{number} {name}" in _loaded:  # Ray starts new workers for every run
            continue
        folder = tempfile.TemporaryDirectory(prefix="sgabench-plugin-")
        for place, content in contents.items():
            path = Path(folder.name, place)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        load_plugin_file(Path(folder.name, name))
        _loaded[f"{number} {name}"] = folder


def _where() -> str:
    """A description of the node and its device, for the display."""
    import ray

    devices = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    return " ".join([ray.util.get_node_ip_address(), *([f"cuda:{device}" for device in devices] or ["cpu"])])


def _folder_of_this_machine() -> Path:
    """The folder for locks of this user's workers on this machine, for measuring times."""
    folder = Path(tempfile.gettempdir()) / f"sgabench-{os.getuid() if SHARES else 'ray'}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if SHARES and (folder.is_symlink() or folder.stat().st_uid != os.getuid()):
        return Path(tempfile.mkdtemp(prefix="sgabench-"))  # it belongs to another user: measure without coordination
    return folder
