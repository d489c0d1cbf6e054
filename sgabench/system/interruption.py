"""SIGTERM as an exception, and ignoring Ctrl-C at the end of a process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM was received; like Ctrl-C, it is not caught where failures of plugins are isolated."""


def ignore_ctrl_c() -> None:
    """Let Ctrl-C not disturb a process that has announced its end; Python takes a second to exit."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, so that open resources are closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
