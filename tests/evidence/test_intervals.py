"""Intervals of means, against formulas by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from sgabench.evidence.intervals import exact_share, log_odds, summarize, summarize_accuracy


def test_log_odds_add_half_a_count() -> None:
    assert log_odds([0.0, 0.5, 1.0], 100) == pytest.approx([np.log(0.5 / 100.5), 0.0, np.log(100.5 / 0.5)])


def test_students_interval() -> None:
    values = np.array([[1.0, 2.0, 4.0, 8.0]])
    found = summarize(values)
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values[0]))
    assert (found.low[0], found.high[0]) == pytest.approx((low, high))


def test_the_interval_of_an_accuracy_is_students_on_the_log_odds() -> None:
    values = np.array([[0.50, 0.60, 0.80]])
    found = summarize_accuracy(values, [10_000])
    p, error = values.mean(), values.std(ddof=1) / np.sqrt(3)
    half = stats.t.ppf(0.975, 2) * error / (p * (1 - p))
    assert found.low[0] == pytest.approx(special.expit(special.logit(p) - half))
    assert found.high[0] == pytest.approx(special.expit(special.logit(p) + half))


def test_the_interval_stays_inside_and_counts_the_images() -> None:
    found = summarize_accuracy([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.1, 0.1, 0.1]], [360, 360, 360])
    assert (found.low > 0).all()
    assert (found.high < 1).all()
    assert (found.high > found.low).all()  # equal numbers are no proof of an exact one
    assert found.mean.tolist() == pytest.approx([1.0, 0.0, 0.1])


def test_one_seed_has_no_interval() -> None:
    for found in (summarize([[0.5]]), summarize_accuracy([[0.5]], [100])):
        assert np.isnan([found.std[0], found.low[0], found.high[0]]).all()


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_covers_the_mean_of_accuracies(n: int) -> None:
    random = np.random.default_rng(n)
    draws = special.expit(random.normal(0.8, 0.8, (4000, n)))
    true = special.expit(random.normal(0.8, 0.8, 200_000)).mean()
    found = summarize_accuracy(draws, np.full(4000, 10_000))
    assert 0.92 < ((found.low <= true) & (true <= found.high)).mean() < 0.985


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (4, 5), (5, 5), (7, 10)])
def test_the_exact_interval_of_a_share(successes: int, n: int) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(0.95, "exact")
    assert exact_share(successes, n) == pytest.approx((expected.low, expected.high))
