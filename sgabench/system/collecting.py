"""Where Python's garbage collector only costs time."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Make many objects that stay, of modules or tables, without passes of the garbage collector over them.

    It is turned on again afterwards, if it was on before.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():  # by somebody else
                # Together these count everything as old; otherwise the next pass would be over all of it.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def leave_at_once() -> None:
    """When this process exits, do not look for garbage in everything that it has imported; its memory is freed anyway.

    For processes of our own: objects in reference cycles are no longer finalized then.
    """
    atexit.register(gc.freeze)
