"""Summaries of tracebacks in one line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'  File "(.+)", line (\d+)')
_LIBRARIES = frozenset({"site-packages", "dist-packages"})
_ROOMS = frozenset(path.name for path in Path(__file__).parents[1].iterdir() if path.is_dir())
MAX_LENGTH = 300


def in_a_line(error: str) -> str:
    """Class and message of an exception, with the file and line of the plugin that raised it.

    Args:
        error: of a record: a traceback, or a sentence.
    """
    lines = error.strip().splitlines()
    starts = [number for number, line in enumerate(lines) if line == _TRACEBACK]
    if not starts:
        return _cut(lines) or "?"
    frames = [(n, match) for n, line in enumerate(lines) if n > starts[-1] and (match := _FRAME.match(line))]
    last = frames[-1][0] if frames else starts[-1]
    # Lines of frames are indented; so may be lines of the message, but not its first one.
    start = next((n for n in range(last + 1, len(lines)) if not lines[n].startswith(" ")), len(lines) - 1)
    theirs = [match for number, match in frames if number < start and not _is_library(match[1])]
    where = f" ({PurePath(theirs[-1][1]).name}, line {theirs[-1][2]})" if theirs else ""
    return _cut(lines[start:]) + where


def has_traceback(error: str) -> bool:
    """Whether an error has more than its summary."""
    return _TRACEBACK in error


def _cut(lines: Sequence[str]) -> str:
    text = " ".join(" ".join(lines).split())
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 3]}..."


def _is_library(path: str) -> bool:
    """Whether it is a file of Python, an installed package, or sgabench, on any machine."""
    parts = PurePath(path).parts
    pairs = list(itertools.pairwise(parts))
    own = any(part == "sgabench" and after in _ROOMS for part, after in pairs)
    python = any(part in ("lib", "lib64") and after.startswith("python3") for part, after in pairs)
    return own or python or path.startswith("<") or not _LIBRARIES.isdisjoint(parts)
