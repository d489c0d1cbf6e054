"""Properties of the processor."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Its name."""
    return cpuinfo("model name") or platform.processor() or platform.machine()


def instructions() -> str:
    """Its instruction sets, as listed by Linux; empty elsewhere."""
    return cpuinfo("flags") or cpuinfo("Features")


def cpuinfo(field: str) -> str:
    """A field of Linux's information about the first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
