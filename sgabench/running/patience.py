"""Signs of life from work that may take long without any output."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 20.0  # seconds


@contextmanager
def in_the_meantime(notify: Callable[[], None]) -> Iterator[None]:
    """Call a function regularly while the block runs."""
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
