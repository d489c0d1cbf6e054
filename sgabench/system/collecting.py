"""Where Python's garbage collector only costs time."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

MANY = 10_000


@contextmanager
def uncollected() -> Iterator[None]:
    """Make many objects that stay, of modules or tables, without passes of the garbage collector over them.

    A large store makes millions, and no cycles: looking for these can double the time. Afterwards it is turned on
    again, if it was on before.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            # If many objects were made, the next pass would be over all of them, so everything is counted as old; not
            # where modules had been imported before, or garbage would grow old each time, and be found late.
            if gc.get_count()[0] > MANY and not gc.get_freeze_count():  # by somebody else
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def leave_at_once() -> None:
    """When this process exits, do not look for garbage in everything that it has imported; its memory is freed anyway.

    For processes of our own: objects in reference cycles are no longer finalized then.
    """
    atexit.register(gc.freeze)
