"""Quiet for measurements of time: no other process computes, of this run and others with the same results folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sgabench.store.locks import SHARES, lock, open_lock, unlock

# Seconds: long enough for another process to finish an evaluation of the test split.
QUIET_TIMEOUT = 120.0


class Quiet:
    """Lets one process measure times while the others pause.

    Every process holds a shared lock while it computes, and releases it for a moment at each event if another one wants
    to be alone. That one announces it with a second lock, then takes the first one exclusively. The locks of a process
    that dies are free. Without shared locks (Windows) no process pauses, and none counts as having been alone.

    Args:
        results: folder of the store, which must exist.
        on_waiting: called with True before this process waits for others, and with False afterwards.
    """

    def __init__(self, results: Path, on_waiting: Callable[[bool], None] = lambda waiting: None) -> None:
        self._on_waiting = on_waiting
        self._computing = open_lock(results, "computing")
        self._timing = open_lock(results, "timing")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Compute."""
        self._enter()
        try:
            yield
        finally:
            if SHARES:
                unlock(self._computing)

    def give_way(self) -> None:
        """Pause while another process wants to be alone."""
        if not SHARES:
            return
        if lock(self._timing, shared=True):
            unlock(self._timing)
        else:
            unlock(self._computing)
            self._enter()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Wait until no other process computes; False if one did not pause in time."""
        if not SHARES:
            yield False
            return
        unlock(self._computing)
        self._wait(self._timing)
        try:
            yield self._wait(self._computing, seconds=QUIET_TIMEOUT)
        finally:
            # No other process can take it exclusively: that needs the second lock, which is released last.
            lock(self._computing, shared=True, seconds=math.inf)
            unlock(self._timing)

    def _enter(self) -> None:
        if not SHARES:
            return
        self._wait(self._timing, shared=True)
        lock(self._computing, shared=True, seconds=math.inf)
        unlock(self._timing)

    def _wait(self, file: IO[Any], *, shared: bool = False, seconds: float = math.inf) -> bool:
        if lock(file, shared=shared):
            return True
        self._on_waiting(True)
        try:
            return lock(file, shared=shared, seconds=seconds)
        finally:
            self._on_waiting(False)
