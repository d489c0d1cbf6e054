"""Contrasts: what is known by hand, and what must hold of any numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import special, stats

from sgabench.evidence.contrasts import MOST, Contrasts, Sides, _spreads, contrasts, moderated
from sgabench.evidence.intervals import log_odds

IMAGES = 1000.0
Floats = NDArray[np.float64]


def compare(first: Floats, second: Floats, *, paired: bool = True, images: float = IMAGES) -> Contrasts:
    """Comparisons of one family; shape (rows, seeds, ratios)."""
    return contrasts([sides(first, second, paired=paired, images=images)], len(first))


def sides(first: Floats, second: Floats, *, paired: bool = True, images: float = IMAGES) -> Sides:
    rows = len(first)
    return Sides(np.arange(rows), np.zeros(rows, dtype=np.int64), first, second, np.full(rows, images), paired)


def accuracies(rows: int, n: int, ratios: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).uniform(0.2, 0.9, (rows, n, ratios))


def test_one_comparison_at_one_ratio_is_the_paired_t_test_of_log_odds() -> None:
    a, b = accuracies(1, 6, 1), accuracies(1, 6, 1, seed=1)
    found = compare(a, b)
    expected = stats.ttest_rel(log_odds(a, IMAGES)[0, :, 0], log_odds(b, IMAGES)[0, :, 0])
    assert found.p()[0] == pytest.approx(expected.pvalue)
    assert found.estimate[0] == pytest.approx((log_odds(a, IMAGES) - log_odds(b, IMAGES)).mean())
    assert found.difference[0] == pytest.approx((a - b).mean())
    assert found.error[0] == pytest.approx(stats.sem((a - b)[0, :, 0]))


def test_one_comparison_of_other_seeds_is_welchs_test() -> None:
    a, b = accuracies(1, 6, 1), accuracies(1, 4, 1, seed=1)
    found = compare(a, b, paired=False)
    sides = log_odds(a, IMAGES)[0, :, 0], log_odds(b, IMAGES)[0, :, 0]
    assert found.p()[0] == pytest.approx(stats.ttest_ind(*sides, equal_var=False).pvalue)
    assert found.n[0] == 4
    assert found.error[0] == pytest.approx(np.hypot(stats.sem(a[0, :, 0]), stats.sem(b[0, :, 0])))


def test_ratios_lend_degrees_of_freedom_and_others_lower_no_variance_below_half_its_own() -> None:
    a, b = accuracies(5, 6, 4), accuracies(5, 6, 4, seed=1)
    found = compare(a, b)
    own = (log_odds(a, IMAGES) - log_odds(b, IMAGES)).mean(2).var(1, ddof=1) / 6
    assert (found.variance >= own / 2).all()
    alone = [compare(a[[row]], b[[row]]).variance[0] for row in range(5)]
    assert (alone >= own * (1 - 1e-12)).all()
    assert (found.freedom > 5).all()


def test_who_spreads_more_than_the_ratios_apart_would_borrows_less_from_them() -> None:
    """One comparison of five whose ratios go together: its mean spreads more than the family's correlation says."""
    a, b = accuracies(5, 6, 4), accuracies(5, 6, 4, seed=1)
    a[0], b[0] = a[0, :, :1], b[0, :, :1]
    spread = _spreads(sides(a, b))[0]
    own, freedom = spread.of_mean(np.full(5, 0.1), np.full(5, 0.25), np.full(5, 5.0))
    assert own[0] == pytest.approx(spread.own[0] / 6)
    pooled = spread.parts[0] * (1 + 3 * 0.1) / spread.own[0]
    assert freedom[0] == pytest.approx(5 + (freedom.max() - 5) * pooled)
    assert freedom[0] < freedom.max()


def test_ratios_that_are_one_lend_nothing() -> None:
    a, b = accuracies(1, 6, 1), accuracies(1, 6, 1, seed=1)
    four = compare(np.repeat(a, 4, axis=2), np.repeat(b, 4, axis=2))
    one = compare(a, b)
    assert four.estimate == pytest.approx(one.estimate)
    assert four.variance == pytest.approx(one.variance)
    assert four.freedom == pytest.approx(one.freedom)


def test_moderation_is_smyths_with_at_most_two_degrees_of_freedom() -> None:
    n = np.full(4, 5)
    variance = np.array([1.0, 2.0, 3.0, 2.5]) / n
    found, freedom = moderated(variance, np.full(4, 4.0), n)
    prior = np.exp(
        np.log(variance).mean() - special.digamma(2) + np.log(2)
    )  # they differ by less than chance would have
    assert found == pytest.approx((4 * variance + MOST * prior) / (4 + MOST), rel=1e-4)
    assert (freedom <= 4 + MOST).all()
    assert (freedom > 4).all()
    # Who spreads more than what is lent would have it borrows fewer degrees of freedom, by as much.
    assert freedom[2] == pytest.approx(4 + (freedom[0] - 4) * found[2] / variance[2])
    alone, own = moderated(variance[:1], np.full(1, 4.0), n[:1])
    assert (alone[0], own[0]) == (variance[0], 4.0)


def test_two_comparisons_with_one_reference_lend_each_other_less_than_they_have() -> None:
    """Two variances that go together by a quarter are worth 1.6 of one, not two; four are worth what the bound is."""
    for comparisons, lent in ((2, 0.6), (3, 0.88), (4, 1.0), (20, 1.0)):
        n = np.full(comparisons, 5)
        _, freedom = moderated(np.full(comparisons, 0.2), np.full(comparisons, 4.0), n)
        assert freedom == pytest.approx(4 + lent * MOST, abs=0.01)


def test_spreads_that_have_nothing_in_common_lend_little() -> None:
    n = np.full(4, 5)
    _, freedom = moderated(np.array([1e-6, 1e-3, 1.0, 1e3]), np.full(4, 4.0), n)
    assert (freedom < 4.5).all()


def test_equal_numbers_prove_no_more_than_whole_images_can() -> None:
    a = np.full((1, 5, 1), 0.9)
    same = compare(a, a)
    assert same.p()[0] == 1
    less = compare(a - 0.1, a, images=360)
    assert 0 < less.variance[0] < 1e-3
    assert less.p()[0] < 1e-6


def test_the_interval_of_points_contains_what_was_measured_and_stays_inside() -> None:
    a, b = np.full((1, 3, 1), 0.99), np.array([[[0.02], [0.5], [0.9]]])
    low, high = compare(a, b).interval([0.001])
    assert -1 <= low[0] < (a - b).mean() < high[0] <= 1


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.tuples(*[arrays.arrays(np.float64, (3, n, 2), elements=st.floats(0, 1)) for _ in range(2)])
    ),
    st.sampled_from([0.05, 0.01, 0.001]),
)
def test_what_must_hold_of_any_accuracies(sides: tuple[Floats, Floats], level: float) -> None:
    a, b = sides
    found, mirrored = compare(a, b), compare(b, a)
    low, high = found.interval(np.full(3, level))
    assert ((low >= -1) & (high <= 1) & (low <= found.difference + 1e-12) & (found.difference <= high + 1e-12)).all()
    np.testing.assert_allclose(mirrored.estimate, -found.estimate, atol=1e-12)
    np.testing.assert_allclose(mirrored.p(), found.p(), rtol=1e-9)
    # An interval excludes zero just where p is below its level, as far as both scales agree on the direction.
    agree = np.sign(found.estimate) == np.sign(found.difference)
    clear = agree & (np.abs(found.p() - level) > 1e-9)
    np.testing.assert_array_equal((low[clear] > 0) | (high[clear] < 0), found.p()[clear] < level)


def test_what_is_in_no_part_is_unknown() -> None:
    found = contrasts([], 2)
    assert found.n.tolist() == [0, 0]
    assert np.isnan(found.p()).all()


@pytest.mark.parametrize("n", [5, 10])
def test_half_of_a_difference_is_found_as_often_as_its_size_says(n: int) -> None:
    """With a spread that is known to be common, nearly as often as a test that knows it."""
    random = np.random.default_rng(0)
    reports, others, spread = 300, 6, 0.5
    shift = 1.6 * spread
    noise = random.normal(0, spread, (reports, others, n, 4))
    first = special.expit(noise + shift / np.sqrt(n) * 2)
    second = np.full_like(first, 0.5)
    shape = (reports * others, n, 4)
    where = np.arange(reports * others), np.repeat(np.arange(reports), others)
    images = np.full(reports * others, 1e6)
    found = contrasts([Sides(*where, first.reshape(shape), second.reshape(shape), images, True)], reports * others)
    exact = 2 * stats.norm.sf(np.abs(found.estimate) / (spread / 2 / np.sqrt(n)))
    assert (found.p() <= 0.05).mean() > 0.75 * (exact <= 0.05).mean()
    assert (found.p() <= 0.05).mean() <= (exact <= 0.05).mean() + 0.02
