"""The way in which OpenMP's threads wait for each other."""

from __future__ import annotations

import os

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SPIN_COUNT = "5000"  # a compromise, measured: docs/performance.md


def wait_politely() -> None:
    """Let waiting threads give up their core soon, unless the user has set one of `CHOICES`.

    By default GNU's OpenMP, which torch uses on Linux, lets them spin for milliseconds, for nothing if another process
    has the core of the thread that they wait for. It reads the environment when it is loaded: call this before torch is
    imported; later it only affects child processes.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
