"""Progress of long operations: on progress bars, if the caller has any, else in lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

FIRST_LINE, NEXT_LINES = 5.0, 60.0  # seconds

Advance = Callable[[int], object]
Show = Callable[[str, int], AbstractContextManager[Advance]]

_logger = logging.getLogger("sgabench")
_show: ContextVar[Show | None] = ContextVar("show", default=None)


@contextmanager
def showing(show: Show) -> Iterator[None]:
    """Let a function show the progress of `shown` inside the block."""
    before = _show.set(show)
    try:
        yield
    finally:
        _show.reset(before)


def silently(what: str, total: int) -> AbstractContextManager[Advance]:
    """Shows nothing."""
    return nullcontext(lambda number: None)


def shown(what: str, total: int) -> AbstractContextManager[Advance]:
    """A context for a long operation; its value is a function to call with each amount of progress."""
    return (_show.get() or _in_lines)(what, total)


@contextmanager
def _in_lines(what: str, total: int) -> Iterator[Advance]:
    done = 0
    next_line = time.monotonic() + FIRST_LINE

    def advance(number: int) -> None:
        nonlocal done, next_line
        done += number
        if time.monotonic() >= next_line and done < total:
            next_line = time.monotonic() + NEXT_LINES
            _logger.warning("%s: %d of %d", what, done, total)

    yield advance
