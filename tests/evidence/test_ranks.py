"""Shapes of curves and ranks, against hand calculations and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sgabench.evidence.curves import area_under_curve, largest_keeping
from sgabench.evidence.ranks import rank_treatments


def test_area_under_a_curve_is_its_mean_height() -> None:
    assert area_under_curve([0, 0.5, 1.0], [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]).tolist() == [0.75, 1.0]
    assert area_under_curve([0, 0.8], [[1.0, 0.5]])[0] == pytest.approx(0.75)


def test_the_largest_ratio_that_keeps_a_level_is_interpolated() -> None:
    curves = [[1.0, 0.96, 0.90], [1.0, 0.99, 0.97], [0.9, 0.9, 0.9], [1.0, 0.90, 0.95]]
    found = largest_keeping([0, 0.4, 0.8], curves, 0.95)
    assert found[0] == pytest.approx(0.4 + 0.4 / 6)
    assert found[1] == math.inf
    assert math.isnan(found[2])
    assert found[3] == math.inf  # it comes back to the level at the end


def test_ranks_by_hand() -> None:
    ranking = rank_treatments([[0.9, 0.8, 0.7], [0.6, 0.6, 0.5]])
    assert ranking.ranks.tolist() == [1.25, 1.75, 3.0]
    # q(0.05, 3, infinity) / sqrt(2) is 2.343 in Demšar's table 5.
    assert ranking.critical_difference == pytest.approx(2.343 * math.sqrt(3 * 4 / 12), abs=1e-3)


def test_friedman_agrees_with_scipy_also_with_ties() -> None:
    scores = np.random.default_rng(3).integers(0, 4, (12, 4)) / 4
    theirs = stats.friedmanchisquare(*scores.T).pvalue
    assert rank_treatments(scores).p == pytest.approx(theirs)


def test_one_block_ranks_but_does_not_test() -> None:
    ranking = rank_treatments([[0.5, 0.7]])
    assert ranking.ranks.tolist() == [2.0, 1.0]
    assert math.isnan(ranking.critical_difference)
    assert math.isnan(ranking.p)
