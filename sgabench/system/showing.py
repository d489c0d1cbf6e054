"""How far something has got that takes long: on bars that who calls has put up, else in lines."""

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
    """Let a function show what `shown` is told inside: it gets what is done and out of how many."""
    before = _show.set(show)
    try:
        yield
    finally:
        _show.reset(before)


def silently(what: str, total: int) -> AbstractContextManager[Advance]:
    """Shows nothing."""
    return nullcontext(lambda number: None)


def shown(what: str, total: int) -> AbstractContextManager[Advance]:
    """A context in which something is done; it gives a function that is called with how much more of it is done."""
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
