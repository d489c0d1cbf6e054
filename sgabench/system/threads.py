"""How OpenMP's threads wait for each other, and how many threads NumPy and SciPy start."""

from __future__ import annotations

import os
import platform

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


def one_thread_for_blas() -> None:
    """Let NumPy and SciPy compute in one thread, unless the user has set ``OPENBLAS_NUM_THREADS``.

    Each brings an OpenBLAS, which starts a thread per core when it is loaded, and these take longer to start than all
    that is computed with them here. Call this before NumPy is imported. PyTorch has its own library on x86; on other
    processors its products may run on OpenBLAS, too, so nothing is set there.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
