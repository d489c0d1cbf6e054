"""Processes of sgabench's own: what Ctrl-C means is decided by the one that started them."""

from __future__ import annotations

import signal
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess

from sgabench.system.threads import wait_politely


def start(process: BaseProcess) -> None:
    """Start a process that calls `ignore_ctrl_c`; one that comes before it can do so waits until it does."""
    wait_politely()
    if not hasattr(signal, "pthread_sigmask"):  # not a Unix
        process.start()
        return
    resource_tracker.ensure_running()  # its own start would let Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_ctrl_c() -> None:
    """To be called first in a process that `start` has started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # for what it starts itself
