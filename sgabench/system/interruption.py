"""SIGTERM as an exception, and Ctrl-C after the last word."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM came; what keeps the failures of plugins from the rest lets it through, as it does Ctrl-C."""


def ignore_ctrl_c() -> None:
    """Let nothing disturb the end of a process that has said that it stops; Python's own end takes a second."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, so that what is open is closed."""
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
