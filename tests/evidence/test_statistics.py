"""Against hand calculations, scipy, and simulations of what the words promise."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sgabench.evidence.statistics import (
    ALPHA,
    area_under_curve,
    bca_interval,
    holm,
    is_exact,
    largest_keeping,
    one_sided_difference,
    paired_difference,
    permutation_p,
    rank_treatments,
    seeds_needed,
    summarize,
    t_interval,
    t_p,
    welch_difference,
)

SEEDS = (3, 5, 10, 30)
SIMULATIONS = 10_000


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(20231216).standard_normal(shape)


@pytest.mark.parametrize("n", SEEDS)
def test_intervals_cover_what_they_promise(n: int) -> None:
    summary = summarize(normal(SIMULATIONS, n))
    coverage = np.mean((summary.low <= 0) & (summary.high >= 0))
    assert abs(coverage - 0.95) <= 0.015


@pytest.mark.parametrize("n", SEEDS)
def test_a_single_verdict_is_wrong_one_time_in_twenty(n: int) -> None:
    first, second = normal(2, SIMULATIONS, n)
    false = np.mean(paired_difference(first, second).p <= ALPHA)
    assert abs(false - 0.05) <= 0.01


@pytest.mark.parametrize("n", SEEDS)
def test_a_family_of_verdicts_is_wrong_one_time_in_twenty(n: int) -> None:
    comparisons = 4
    first, second = normal(2, SIMULATIONS * comparisons, n)
    p = paired_difference(first, second, comparisons=comparisons).p.reshape(SIMULATIONS, comparisons)
    false = np.mean([(holm(family) <= ALPHA).any() for family in p])
    assert abs(false - 0.05) <= 0.01


@pytest.mark.parametrize("n", SEEDS)
def test_all_pairs_of_equal_optimizers_are_a_family_too(n: int) -> None:
    optimizers = normal(3, SIMULATIONS, n)
    pairs = list(itertools.combinations(optimizers, 2))
    p = np.stack([paired_difference(a, b, comparisons=len(pairs)).p for a, b in pairs], axis=1)
    false = np.mean([(holm(family) <= ALPHA).any() for family in p])
    assert 0.04 <= false <= 0.06


@pytest.mark.parametrize("n", SEEDS)
def test_welch_is_wrong_one_time_in_twenty(n: int) -> None:
    first, second = normal(2, SIMULATIONS, n)
    result = welch_difference(first, 2 * second)
    tolerance = 0.02 if n == 3 else 0.01  # its degrees of freedom are an approximation
    assert abs(np.mean(result.p <= ALPHA) - 0.05) <= tolerance


def test_a_real_difference_is_found_as_often_as_the_power_says() -> None:
    std, resolution = 0.03, 0.02
    (n,) = seeds_needed([std], resolution)
    differences = resolution + std * normal(4000, int(n))
    found = np.mean(t_p(differences) <= ALPHA)
    assert 0.78 <= found <= 0.86
    assert np.mean(t_p(differences[:, : n // 2]) <= ALPHA) < 0.6


def test_seeds_needed_falls_with_the_spread_and_has_an_end() -> None:
    assert seeds_needed([0.0, 0.01, 0.02, 0.04, 100.0], 0.02).tolist() == [2, 5, 10, 34, 1001]


def test_summary_by_hand() -> None:
    summary = summarize([[0.5, 0.6, 0.7]])
    assert summary.mean[0] == pytest.approx(0.6)
    assert summary.std[0] == pytest.approx(0.1)
    half = 4.302652729911275 * 0.1 / math.sqrt(3)  # t of 2 degrees of freedom, 0.975
    assert (summary.low[0], summary.high[0]) == (pytest.approx(0.6 - half), pytest.approx(0.6 + half))


def test_one_seed_has_no_spread() -> None:
    summary = summarize([[0.5], [0.7]])
    assert summary.mean.tolist() == [0.5, 0.7]
    assert np.isnan([summary.std, summary.low, summary.high]).all()


def test_the_bootstrap_starts_at_ten_seeds() -> None:
    for n, interval in ((9, t_interval), (10, bca_interval)):
        values = normal(5, n)
        assert np.allclose(interval(values), (summarize(values).low, summarize(values).high))


def test_the_bootstrap_leans_to_the_long_side_and_agrees_with_scipy_for_many_values() -> None:
    values = np.random.default_rng(1).exponential(size=(1, 200))
    low, high = (limit[0] for limit in bca_interval(values))
    mean = values.mean()
    assert high - mean > mean - low
    reference = stats.bootstrap(
        (values[0],), np.mean, method="BCa", n_resamples=9999, random_state=0
    ).confidence_interval
    assert (low, high) == (pytest.approx(reference.low, abs=0.015), pytest.approx(reference.high, abs=0.015))


def test_the_bootstrap_of_equal_values_is_their_value() -> None:
    low, high = bca_interval(np.full((2, 12), 0.3))
    assert np.allclose([low, high], 0.3)


def test_an_interval_does_not_depend_on_what_is_computed_with_it() -> None:
    """Values that are repeated have resamples with the mean of all, but for rounding."""
    values = np.round(normal(100, 12), 1) / 3
    together = np.array(bca_interval(values))
    alone = np.array([bca_interval(row[None]) for row in values])[:, :, 0].T
    assert together == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_permutation_test_agrees_with_scipy(n: int) -> None:
    differences = normal(4, n) + 0.5
    ours = permutation_p(differences)
    for d, p in zip(differences, ours, strict=True):
        theirs = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
        assert p == pytest.approx(theirs)


def test_the_permutation_test_counts_ties() -> None:
    assert permutation_p([[0.1, 0.2, 0.3]])[0] == pytest.approx(2 / 8)
    assert permutation_p([[0.1, -0.1]])[0] == 1.0
    assert permutation_p([[0.0, 0.0, 0.0]])[0] == 1.0


def test_the_t_test_agrees_with_scipy() -> None:
    first, second = normal(2, 6, 5)
    ours = paired_difference(first, second)
    assert ours.test == "t"
    assert np.allclose(ours.p, stats.ttest_rel(first, second, axis=1).pvalue)
    welch = welch_difference(first, second[:, :3])
    theirs = stats.ttest_ind(first, second[:, :3], axis=1, equal_var=False)
    assert np.allclose(welch.p, theirs.pvalue)
    interval = theirs.confidence_interval(0.95)
    assert np.allclose(np.stack([welch.low, welch.high]), np.stack([interval.low, interval.high]))


def test_the_one_sided_tests_agree_with_scipy() -> None:
    first, second = normal(2, 6, 5)
    shifted = first - 0.3
    paired = one_sided_difference(first, second, 0.3, paired=True)
    theirs: Any = stats.ttest_rel(shifted, second, axis=1, alternative="greater")
    assert np.allclose(paired.p, theirs.pvalue)
    interval = stats.ttest_rel(first, second, axis=1).confidence_interval(0.95)
    assert np.allclose(np.stack([paired.low, paired.high]), np.stack([interval.low, interval.high]))
    welch = one_sided_difference(first, second[:, :3], 0.3, paired=False)
    theirs = stats.ttest_ind(shifted, second[:, :3], axis=1, equal_var=False, alternative="greater")
    assert np.allclose(welch.p, theirs.pvalue)


def test_one_sided_differences_without_spread_prove_no_more_than_their_number() -> None:
    same = [[0.9] * 3, [0.9] * 3, [0.9] * 3]
    paired = one_sided_difference(same, [[0.8] * 3, [0.9] * 3, [0.95] * 3], 0.05, paired=True)
    assert paired.p.tolist() == [pytest.approx(1 / 8), 1.0, 1.0]
    assert one_sided_difference(same[:1], [[0.8] * 3], paired=False).p[0] == pytest.approx(1 / 20)


@pytest.mark.parametrize("n", SEEDS)
def test_a_one_sided_verdict_at_the_margin_is_wrong_one_time_in_twenty(n: int) -> None:
    first, second = normal(2, SIMULATIONS, n)
    false = np.mean(one_sided_difference(first + 0.5, second, 0.5, paired=True).p <= ALPHA)
    assert abs(false - 0.05) <= 0.01
    apart = np.mean(one_sided_difference(first + 0.5, 2 * second, 0.5, paired=False).p <= ALPHA)
    assert apart <= 0.07


def test_differences_without_spread_prove_no_more_than_their_number() -> None:
    result = paired_difference([[0.5, 0.6, 0.7], [0.5, 0.6, 0.7]], [[0.4, 0.5, 0.6], [0.5, 0.6, 0.7]])
    assert result.p.tolist() == [pytest.approx(2 / 8), 1.0]
    assert result.effect.tolist() == [math.inf, 0.0]
    apart = welch_difference([[0.5] * 3], [[0.4] * 3])
    assert apart.p[0] == pytest.approx(2 / 20)


def test_the_effect_size_is_hedges_g() -> None:
    d = np.array([[0.1, 0.3, 0.2, 0.4]])
    result = paired_difference(d, np.zeros_like(d))
    assert result.effect[0] == pytest.approx(0.25 / d.std(ddof=1) * (1 - 3 / (4 * 3 - 1)), rel=0.02)


def test_the_exact_test_is_used_where_its_steps_are_fine_enough() -> None:
    assert not is_exact(5, 1)  # its smallest p-value is 0.0625
    assert is_exact(10, 1)
    assert not is_exact(10, 100)
    assert is_exact(16, 100)
    assert not is_exact(17, 1)


def test_holm_by_hand() -> None:
    adjusted = holm([0.01, 0.04, math.nan, 0.03])
    assert adjusted[[0, 1, 3]].tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(adjusted[2])
    assert holm([]).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_order_and_lies_between_none_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


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


def test_values_must_be_rows() -> None:
    with pytest.raises(ValueError, match=r"must have the shape \(rows, n\)"):
        summarize([0.1, 0.2])
