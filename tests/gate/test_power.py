"""What docs/ci.md says that a gate finds, computed from the distributions of its tests."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

from sgabench.evidence.statistics import ALPHA, POWER, one_sided_difference
from sgabench.suite.rules import METRICS, ONE_SEED_TOLERANCE

DOCS = Path(__file__).parents[2] / "docs" / "ci.md"
CHECKS = 30
MARGIN = METRICS["retention"].tolerance
ROWS = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", DOCS.read_text(), re.MULTILINE)


def found(seeds: int, std: float) -> float:
    """The worsening that is found four times out of five."""
    if seeds == 1:
        return float(ONE_SEED_TOLERANCE + stats.norm.ppf(POWER) * std)
    limit = stats.t.isf(ALPHA / CHECKS, seeds - 1)
    shift = optimize.brentq(lambda shift: stats.nct.sf(limit, seeds - 1, shift) - POWER, 0, 2 * limit + 10)
    return float(MARGIN + shift * std / np.sqrt(seeds))


def test_the_table_is_about_few_and_many_seeds() -> None:
    assert [int(row[0]) for row in ROWS] == [1, 2, 3, 5, 10, 20]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_worsening_that_is_found(row: tuple[str, ...]) -> None:
    for std, told in zip((0.5, 1.0, 2.0), row[1:], strict=True):
        expected = found(int(row[0]), std)
        assert float(told) == pytest.approx(expected, abs=0.051 if expected < 50 else 0.51)


def test_the_gates_own_test_finds_it_as_often() -> None:
    draws = np.random.default_rng(0).normal(found(5, 1.0), 1.0, (20_000, 5))
    p = one_sided_difference(draws, np.zeros_like(draws), MARGIN, paired=True).p
    assert np.mean(p <= ALPHA / CHECKS) == pytest.approx(POWER, abs=0.01)
