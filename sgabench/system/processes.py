"""sgabench's own processes: the parent decides what Ctrl-C means."""

from __future__ import annotations

import signal
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess

from sgabench.system.threads import wait_politely


def start(process: BaseProcess) -> None:
    """Start a process that calls `ignore_ctrl_c`; a Ctrl-C before that stays pending until it does."""
    wait_politely()
    if not hasattr(signal, "pthread_sigmask"):  # not on Unix
        process.start()
        return
    resource_tracker.ensure_running()  # starting it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_ctrl_c() -> None:
    """Must be called first in a process started by `start`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # for the processes that it starts
