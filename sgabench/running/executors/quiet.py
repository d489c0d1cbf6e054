"""Times are measured while nothing else computes, of this run and of others on the same results folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sgabench.store.locks import SHARES, lock, open_lock, unlock

# Long enough for what another process may be in the middle of: an evaluation of the test split.
QUIET_TIMEOUT = 120.0


class Quiet:
    """Lets one process measure times while the others stand still.

    Every process shares a lock while it computes, and lets go of it for a moment whenever it emits an
    event, if somebody wants to be alone. Who wants to be alone takes another lock to say so, then that
    one alone. What a process that dies was holding is free. Without shared locks (Windows) nobody
    stands still, and nobody is said to have been alone.

    Args:
        results: folder of the store; it must be there.
        on_waiting: is told True before this process waits for others, and False after that.
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
        """Stand still for as long as another process wants to be alone."""
        if not SHARES:
            return
        if lock(self._timing, shared=True):
            unlock(self._timing)
        else:
            unlock(self._computing)
            self._enter()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Wait until no other process computes; gives False where one did not stop in time."""
        if not SHARES:
            yield False
            return
        unlock(self._computing)
        self._wait(self._timing)
        try:
            yield self._wait(self._computing, seconds=QUIET_TIMEOUT)
        finally:
            # Nobody else takes it alone: that needs the other lock, which is given back last.
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
