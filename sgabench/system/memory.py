"""Available memory: of the machine, its container, and this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sgabench.errors import InputError


def available(processes: int = 1, root: Path = Path("/")) -> int | None:
    """Bytes that each of several processes can still use; None if the system does not say.

    The smallest of what the system has available (including what it can reclaim), what the limits of the control groups
    leave, and what RLIMIT_AS and RLIMIT_DATA leave of this process's address space and data segment.

    Args:
        processes: that share it.
        root: of ``proc`` and ``sys``.
    """
    shared = [_left_of_the_system(root), *_left_of_control_groups(root)]
    found = [left // processes for left in shared if left is not None]
    found += _left_of_own_limits(root)
    return max(0, min(found)) if found else None


def require(needed: int, what: str, processes: int = 1, left: int | None = None) -> None:
    """Refuse work that cannot fit.

    Args:
        needed: bytes, in each process.
        what: description of the work.
        processes: that share the memory.
        left: bytes for each of them, if it is not the system's memory.

    Raises:
        InputError: it needs more than is available.
    """
    left = available(processes) if left is None else left
    if left is not None and needed > left:
        each = f" for each of {processes} processes" if processes > 1 else ""
        raise InputError(f"{what} needs about {in_words(needed)} of memory{each}; {in_words(left)} are available")


def in_words(size: int) -> str:
    """``3.2 GB``, ``12 MB``."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _left_of_the_system(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    names = getattr(os, "sysconf_names", {})  # not on Linux: the total memory, an upper limit
    if root == Path("/") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= names.keys():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _left_of_control_groups(root: Path) -> Iterator[int]:
    """What each limit leaves, from the process's group up to the root, for both versions of the interface."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            top, limit, usage, inactive = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            inactive = "total_inactive_file"
        else:
            continue
        group = root / top / path.lstrip("/")
        while group.is_relative_to(root / top):
            most, used = _read(group / limit).strip(), _read(group / usage).strip()
            if most.isdecimal() and used.isdecimal():
                statistics = dict(line.split() for line in _read(group / "memory.stat").splitlines())
                yield int(most) - int(used) + int(statistics.get(inactive, 0))  # which the system reclaims
            group = group.parent


def _left_of_own_limits(root: Path) -> Iterator[int]:
    try:
        import resource
    except ImportError:  # not on Unix
        return
    pages = _read(root / "proc/self/statm").split()
    for limited, field in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        limit, _ = resource.getrlimit(limited)
        if limit != resource.RLIM_INFINITY and len(pages) > field:
            yield limit - int(pages[field]) * resource.getpagesize()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
