"""The environment of a record: machine and versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any

from sgabench.errors import InputError
from sgabench.system.precision import uses_bf16
from sgabench.system.processor import processor
from sgabench.system.source import code_hash, commit

PACKAGES = (
    "sgabench",
    "torch",
    "torchvision",
    "torch-pruning",
    "timm",
    "numpy",
    "pandas",
    "pillow",
    "scikit-learn",
    "scipy",
    "safetensors",
)
# Options of glibc's mallopt (malloc.h), with values in bytes.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT = 1 << 30
_LARGEST_ON_THE_HEAP = 1 << 25


_facts: dict[str, Callable[[str], Any]] = {}


def register_fact(name: str, of: Callable[[str], Any]) -> None:
    """Add a fact to the result of `describe_environment` from now on.

    Args:
        name: in the environment.
        of: returns a JSON value for a device, ``cpu`` or ``cuda``.
    """
    _facts[name] = of


def describe_environment(device: str, threads: int, also: Collection[str] = ()) -> dict[str, Any]:
    """The environment for a record: versions, code, processor, device; no names of hosts or users.

    Args:
        device: ``cpu`` or ``cuda``.
        threads: of a trial on the CPU.
        also: packages whose versions matter, beside those that always do.

    Raises:
        InputError: the requested implementation is not available.
    """
    import torch

    environment: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in (*PACKAGES, *also) if (version := _version(name))},
        "cpu": processor(),
        "cores": cores(),
        "threads": threads,
        "device": device,
        "bf16": uses_bf16(device),
        "code": code_hash(),
        **{name: of(device) for name, of in sorted(_facts.items())},
    }
    if (at := commit()) is not None:
        environment["commit"] = at
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        environment["gpu"] = properties.name
        environment["gpu_memory"] = properties.total_memory
        environment["cuda"] = torch.version.cuda
        environment["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return environment


def choose_device(requested: str) -> str:
    """Resolve ``auto``, and refuse a device that is not available.

    Raises:
        InputError: CUDA was asked for and is not available.
    """
    if requested not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {requested!r}: must be auto, cpu or cuda")
    import torch

    if requested == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if requested == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine or this build of PyTorch has no CUDA; use --device cpu")
    return requested


def cores() -> int:
    """Cores that this process may use; ``OMP_NUM_THREADS`` lowers it."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(available, int(limit))) if limit.isdecimal() else available


@cache
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


class PeakMemory:
    """The peak memory of a piece of work, in bytes.

    On CUDA the memory allocated by PyTorch, on the CPU the process's resident memory; if the system cannot reset its
    high-water mark, that of the process so far.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        if device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            _give_back_freed()  # otherwise new work would reuse the memory of old work unnoticed
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
        self._start = self.bytes() or 0

    def growth(self) -> int:
        """The growth of the peak since this object was made; 0 if the system does not say."""
        return (self.bytes() or 0) - self._start

    def bytes(self) -> int | None:
        """The peak since this object was made; None if the system does not say."""
        if self._device == "cuda":
            import torch

            return int(torch.cuda.max_memory_allocated())
        try:
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024
        except (OSError, StopIteration):
            try:
                import resource
            except ImportError:  # not on Unix
                return None
            usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return usage if platform.system() == "Darwin" else usage * 1024


def keep_freed_memory() -> None:
    """Let glibc's allocator, if it is used, keep the memory that a step frees for the next one.

    By default it returns large tensors to the system at once, which must then clear every page for the next step.
    """
    library = _c_library()
    for option, size in ((_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _KEPT // 16), (_MMAP_THRESHOLD, _LARGEST_ON_THE_HEAP)):
        if library is not None:
            library.mallopt(option, size)


def _give_back_freed() -> None:
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


def _c_library() -> Any:
    """glibc; None with another C library."""
    import ctypes

    library = ctypes.CDLL(None) if platform.system() == "Linux" else None
    return library if hasattr(library, "malloc_trim") else None
