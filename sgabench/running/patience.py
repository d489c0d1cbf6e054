"""Signs of life of what may take long without a word."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 20.0  # seconds without a word


@contextmanager
def in_the_meantime(notify: Callable[[], None]) -> Iterator[None]:
    """Call it every so often, while what is inside goes on."""
    over = threading.Event()

    def wait() -> None:
        while not over.wait(PATIENCE):
            notify()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
