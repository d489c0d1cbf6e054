"""Counts of collapsed networks, against scipy and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sgabench.evidence.collapses import COLLAPSED, chance_limit, collapsed, holm_of_counts, p_fallen, p_more


def test_what_is_at_chance_or_far_below_the_worst_has_collapsed() -> None:
    assert chance_limit(10, 360) == pytest.approx(0.1 + 3 * np.sqrt(0.09 / 360))
    good = [0.9, 0.8, 0.85]
    assert collapsed([0.9, 0.1, 0.14], good, 10, 360) == (2, 0)
    assert collapsed([0.9, 0.44, 0.46], good, 10, 360) == (1, 0)  # half way from guessing to 80 % is 45 %
    assert collapsed([0.9, 0.1, 0.1], [0.9, 0.1, 0.85], 10, 360) == (2, 1)


@pytest.mark.parametrize("count", [(3, 5, 0, 5), (4, 5, 1, 5), (2, 10, 2, 10), (5, 5, 0, 3), (0, 5, 2, 5)])
def test_counts_are_judged_by_fishers_exact_test(count: tuple[int, int, int, int]) -> None:
    first, n, second, m = count
    theirs = stats.fisher_exact([[first, n - first], [second, m - second]], alternative="greater").pvalue
    assert p_more(*count) == pytest.approx(theirs)


@pytest.mark.parametrize(("fell", "left"), [(3, 0), (0, 3), (4, 1), (0, 0), (7, 7)])
def test_pairs_that_fell_are_judged_by_the_exact_sign_test(fell: int, left: int) -> None:
    changed = fell + left
    theirs = stats.binomtest(fell, changed, alternative="greater").pvalue if changed else 1.0
    assert p_fallen(fell, left) == pytest.approx(theirs)


def test_what_could_not_be_shown_is_not_paid_for() -> None:
    one = (10, 10, 0, 10)
    hopeless = [(1, 10, 0, 10)] * 50
    assert holm_of_counts([one, *hopeless])[0] == holm_of_counts([one])[0] == p_more(*one)
    assert holm_of_counts([one, (9, 10, 0, 10)])[0] == pytest.approx(2 * p_more(*one))
    assert holm_of_counts(hopeless).tolist() == [1.0] * 50
    assert holm_of_counts([]).size == 0


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_collapses_that_are_as_frequent_as_before_are_hardly_ever_shown(rate: float) -> None:
    generator = np.random.default_rng(3)
    wrong = 0
    for _ in range(1000):
        counts = [(int(a), 10, int(b), 10) for a, b in generator.binomial(10, rate, (12, 2))]
        wrong += bool((holm_of_counts(counts) <= COLLAPSED).any())
    assert wrong <= 1000 * COLLAPSED + 10


def test_networks_of_one_distribution_are_hardly_ever_collapsed() -> None:
    """The limit is from the baseline's worst, which is what the test is exact for."""
    generator = np.random.default_rng(4)
    wrong = 0
    for _ in range(1000):
        first, second = 1 / (1 + np.exp(-generator.standard_t(3, (2, 10))))
        a, b = collapsed(first, second, 10, 360)
        wrong += bool(holm_of_counts([(a, 10, b, 10)])[0] <= COLLAPSED)
    assert wrong <= 1000 * COLLAPSED + 10
