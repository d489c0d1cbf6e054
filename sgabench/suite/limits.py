"""Limits of a suite: everything is counted before anything is expanded.

A suite may come from a stranger. Whatever is in it, it is accepted or refused in seconds, with a few hundred megabytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sgabench.errors import InputError, shorten

MAX_SUITE_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_LIST = 1000  # ratios, milestones
MAX_SEEDS = 10_000
MAX_VARIANTS = 10_000  # of a section
MAX_VARIANTS_TEXT = 5_000_000  # characters of all variants of an entry
MAX_RECORDS = 1_000_000  # of a plan
ASK_ABOVE = 100_000  # cells to run, or trainings of a tuning

# The time of Python's parser is quadratic in the length of a dotted key.
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*\.[ \t]*{_PART}){{{2 * MAX_DEPTH}}}")


def check_text(text: str) -> None:
    """Refuse TOML that would take very long to parse.

    Raises:
        InputError: a dotted key of more than a hundred parts.
    """
    if _LONG_KEY.search(text):
        raise InputError(f"a key has more than {2 * MAX_DEPTH} parts: not a suite")


def check_values(data: Mapping[str, Any]) -> None:
    """Refuse values that no part of a suite can have.

    Raises:
        InputError: nested too deeply, or a whole number that does not fit into 64 bits.
    """
    left: list[tuple[str, Any, int]] = [("", data, 0)]
    while left:
        where, value, depth = left.pop()
        if depth > MAX_DEPTH:
            raise InputError(f"{shorten(where)}: nested more than {MAX_DEPTH} levels deep")
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise InputError(f"{where}: must be a 64-bit integer, got {shorten(value)}")
        if isinstance(value, Mapping):
            left += [(f"{where}.{key}" if where else str(key), item, depth + 1) for key, item in value.items()]
        elif isinstance(value, list):
            left += [(f"{where}.{number}", item, depth + 1) for number, item in enumerate(value)]


def count_variants(sweep: Mapping[str, Sequence[Any]], rest: Any) -> int:
    """The number of variants that a sweep makes of an entry.

    Args:
        sweep: option to its values.
        rest: what all variants have in common.

    Raises:
        InputError: too many, or too much text in total.
    """
    number = math.prod(len(values) for values in sweep.values())
    if number > MAX_VARIANTS:
        raise InputError(f"sweep: {number} combinations; at most {MAX_VARIANTS} are possible")
    text = number * (_length(rest) + sum(max(map(_length, values)) for values in sweep.values()))
    if number > 1 and text > MAX_VARIANTS_TEXT:
        raise InputError(
            f"sweep: {number} combinations have {text} characters in total; at most {MAX_VARIANTS_TEXT} are possible"
        )
    return number


def check_variants(section: str, numbers: Iterable[int]) -> None:
    """Refuse a section with too many variants.

    Raises:
        InputError: there are too many.
    """
    number = sum(numbers)
    if number > MAX_VARIANTS:
        raise InputError(f"{section}: {number} entries, sweeps expanded; at most {MAX_VARIANTS} are possible")


def check_records(trials: int, cells: int, probes: int) -> None:
    """Refuse a plan with too many records.

    Raises:
        InputError: too many trials, cells and probes in total.
    """
    number = trials + cells + probes
    if number > MAX_RECORDS:
        raise InputError(
            f"{number} records ({trials} trials, {cells} cells, {probes} probes); at most {MAX_RECORDS} are possible: "
            "split the suite"
        )


def _length(value: Any) -> int:
    return len(json.dumps(value, default=str))
