"""How much memory there is: of the machine, of its container, and of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sgabench.errors import InputError


def available(processes: int = 1, root: Path = Path("/")) -> int | None:
    """Bytes that each of some processes may still take; None where the system does not say.

    The least of what the system has left (what it can give back counts as left), what the limits of the control
    groups leave, and what RLIMIT_AS and RLIMIT_DATA leave of this process's address space and of its own part of it.

    Args:
        processes: that share it.
        root: where ``proc`` and ``sys`` are.
    """
    shared = [_left_of_the_system(root), *_left_of_control_groups(root)]
    found = [left // processes for left in shared if left is not None]
    found += _left_of_own_limits(root)
    return max(0, min(found)) if found else None


def require(needed: int, what: str, processes: int = 1, left: int | None = None) -> None:
    """Refuse what cannot fit.

    Args:
        needed: bytes, in each process.
        what: needs it, in words.
        processes: that share the memory.
        left: bytes for each of them, of another memory than the system's.

    Raises:
        InputError: more than there is.
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
    names = getattr(os, "sysconf_names", {})  # elsewhere than on Linux: all that there is, an upper limit
    if root == Path("/") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= names.keys():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _left_of_control_groups(root: Path) -> Iterator[int]:
    """What is left of each limit from the process's group up to the root; of both versions of the interface."""
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
                yield int(most) - int(used) + int(statistics.get(inactive, 0))  # the system gives that back
            group = group.parent


def _left_of_own_limits(root: Path) -> Iterator[int]:
    try:
        import resource
    except ImportError:  # not a Unix
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
