"""Measured rows with the environment they were made in."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Benchmark:
    """What was measured.

    Attributes:
        subject: as on the command line.
        rows: raw numbers: seconds, bytes, ratios.
        shown: the same rows as a reader sees them, by heading; the first two columns are text.
        note: what the columns mean.
        environment: as a record keeps it.
    """

    subject: str
    rows: Sequence[Mapping[str, Any]]
    shown: Sequence[Mapping[str, str]]
    note: str
    environment: Mapping[str, Any]


def quartiles(values: Sequence[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")


def ratios(values: Sequence[float], references: Sequence[float]) -> list[float]:
    """Quartiles of the ratios of what was measured in the same round."""
    return quartiles([value / reference for value, reference in zip(values, references, strict=True)])


def spread(quarters: Sequence[float]) -> str:
    """Quartiles as a reader sees them: the median, and between what."""
    low, median, high = quarters
    return f"{median:.2f} [{low:.2f} to {high:.2f}]"
