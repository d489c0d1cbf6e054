"""Intervals, tests, corrections and curves: pure functions on arrays, seeds along the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

ALPHA = 0.05
POWER = 0.8
BOOTSTRAP_FROM = 10  # seeds
RESAMPLES = 2000
EXACT_UP_TO = 16  # seeds: 2**15 sign patterns
MOST_SEEDS = 1000
CHUNK = 256

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation (n - 1) and confidence limits of the mean, an array each."""

    mean: Floats
    std: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Difference(Summary):
    """A difference of means with its two-sided p-value, its effect size and the test's name."""

    p: Floats
    effect: Floats
    test: str


def summarize(values: ArrayLike, alpha: float = ALPHA) -> Summary:
    """Describe the mean over seeds.

    The interval is Student's t below 10 seeds and a bootstrap from 10 on: `bca_interval`.

    Args:
        values: shape (rows, n), n of at least 1, finite.
        alpha: 1 - confidence.

    Returns:
        Shape (rows,) each; with one seed standard deviation and limits are NaN.
    """
    x = _rows(values)
    rows, n = x.shape
    mean = x.mean(1)
    if n == 1:
        nothing = np.full(rows, np.nan)
        return Summary(mean, nothing, nothing, nothing)
    std = x.std(1, ddof=1)
    low, high = bca_interval(x, alpha) if n >= BOOTSTRAP_FROM else t_interval(x, alpha)
    return Summary(mean, std, low, high)


def t_interval(values: ArrayLike, alpha: float = ALPHA) -> tuple[Floats, Floats]:
    """Limits of the mean by Student's t; values of shape (rows, n), n of at least 2."""
    x = _rows(values)
    n = x.shape[1]
    half = special.stdtrit(n - 1, 1 - alpha / 2) * x.std(1, ddof=1) / np.sqrt(n)
    return x.mean(1) - half, x.mean(1) + half


def bca_interval(values: ArrayLike, alpha: float = ALPHA) -> tuple[Floats, Floats]:
    """Limits of the mean by the bias-corrected and accelerated bootstrap.

    The plain bootstrap is too narrow for few values, by sqrt((n - 1) / n) and by the normal quantile in place
    of Student's; its levels are widened for both. All rows share their resamples.

    Source: Efron, "Better bootstrap confidence intervals", JASA 82 (1987), equations 2.3 and 6.6; the widening:
    Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69 (2015), section 5.3.
    """
    x = _rows(values)
    rows, n = x.shape
    mean = x.mean(1, keepdims=True)
    centered = x - mean
    square = (centered**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        acceleration = np.where(square > 0, (centered**3).sum(1) / (6 * square**1.5), 0.0)
    wide = np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, 1 - alpha / 2)
    limits = np.empty((2, rows))
    for start in range(0, rows, CHUNK):
        part = slice(start, start + CHUNK)
        means = np.sort(centered[part] @ _resamples(n).T, axis=1)
        # A resample with the mean of all is a tie, whatever rounding made of it.
        tie = 1e-12 * np.abs(centered[part]).max(1, keepdims=True)
        below = (means < -tie).mean(1) + (np.abs(means) <= tie).mean(1) / 2
        bias = special.ndtri(np.clip(below, 0.5 / RESAMPLES, 1 - 0.5 / RESAMPLES))
        for side, z in enumerate((-wide, wide)):
            shifted = bias + z
            level = special.ndtr(bias + shifted / (1 - acceleration[part] * shifted))
            place = np.clip(level * RESAMPLES - 0.5, 0, RESAMPLES - 1)
            lower = np.floor(place).astype(int)
            upper = np.minimum(lower + 1, RESAMPLES - 1)
            each = np.arange(len(means))
            fraction = place - lower
            limits[side, part] = (1 - fraction) * means[each, lower] + fraction * means[each, upper]
    return mean[:, 0] + limits[0], mean[:, 0] + limits[1]


@lru_cache(maxsize=8)
def _resamples(n: int) -> Floats:
    """How much each of n values weighs in each resample's mean: shape (RESAMPLES, n)."""
    generator = np.random.default_rng(n)
    return generator.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n


def paired_difference(first: ArrayLike, second: ArrayLike, *, comparisons: int = 1, alpha: float = ALPHA) -> Difference:
    """Compare two treatments of the same seeds: first - second.

    The interval is Student's t. The test is a permutation test of signs, over all 2**n patterns, where these
    resolve the corrected level well, and a t-test where there are too few seeds (or more than 16) for that.

    Args:
        first: shape (rows, n), n of at least 2, finite.
        second: the same, of the same seeds.
        comparisons: size of the family that the p-values will be corrected for.
        alpha: 1 - confidence of the interval.

    Returns:
        Shape (rows,) each; ``effect`` is Hedges' g of the differences (their mean in standard deviations, corrected
        for few seeds), infinite where they are all the same.
    """
    d = _rows(first) - _rows(second)
    n = d.shape[1]
    mean, std = d.mean(1), d.std(1, ddof=1)
    low, high = t_interval(d, alpha)
    exact = is_exact(n, comparisons, alpha)
    p = permutation_p(d) if exact else t_p(d)
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = np.where(mean == 0, 0.0, _hedges(n - 1) * mean / _positive(std, mean))
    return Difference(mean, std, low, high, p, effect, "permutation" if exact else "t")


def is_exact(n: int, comparisons: int, alpha: float = ALPHA) -> bool:
    """Whether the permutation test of n pairs resolves a tenth of the level that each comparison gets."""
    return n <= EXACT_UP_TO and 2 * 0.5**n <= alpha / comparisons / 10


def permutation_p(differences: ArrayLike) -> Floats:
    """Two-sided p-value of a mean of zero under all changes of sign (Fisher 1935); shape (rows, n) to (rows,)."""
    d = _rows(differences)
    n = d.shape[1]
    patterns = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1  # the other half mirrors these
    signs = (1 - 2 * patterns).astype(float)
    p = np.empty(len(d))
    for start in range(0, len(d), CHUNK):
        part = d[start : start + CHUNK]
        sums = np.abs(part @ signs.T)
        # Sums that are equal in exact arithmetic are ties, whatever rounding made of them.
        tolerance = 1e-9 * np.abs(part).sum(1, keepdims=True)
        p[start : start + CHUNK] = (sums >= sums[:, :1] - tolerance).mean(1)
    return p


def t_p(differences: ArrayLike) -> Floats:
    """Two-sided p-value of a mean of zero by Student's t; differences without spread are left to their signs."""
    d = _rows(differences)
    n = d.shape[1]
    mean, std = d.mean(1), d.std(1, ddof=1)
    spread = std > 1e-12 * np.maximum(np.abs(mean), 1e-300)
    t = np.divide(np.abs(mean) * np.sqrt(n), std, out=np.zeros_like(mean), where=spread)
    p = 2 * special.stdtr(n - 1, -t)
    return np.asarray(np.where(spread, p, np.where(mean == 0, 1.0, 2 * 0.5**n)))


def welch_difference(first: ArrayLike, second: ArrayLike, alpha: float = ALPHA) -> Difference:
    """Compare two groups of different seeds: first - second, by Welch's t (Welch 1947).

    Args:
        first: shape (rows, n), n of at least 2, finite.
        second: shape (rows, m), m of at least 2, finite.
        alpha: 1 - confidence of the interval.
    """
    a, b = _rows(first), _rows(second)
    mean = a.mean(1) - b.mean(1)
    error, freedom = welch_error(a, b)
    half = special.stdtrit(freedom, 1 - alpha / 2) * error
    spread = error > 1e-12 * np.maximum(np.abs(mean), 1e-300)
    t = np.divide(np.abs(mean), error, out=np.zeros_like(mean), where=spread)
    fewest = 2 / special.binom(a.shape[1] + b.shape[1], a.shape[1])  # a permutation test's smallest
    p = np.where(spread, 2 * special.stdtr(freedom, -t), np.where(mean == 0, 1.0, fewest))
    pooled = np.sqrt((a.var(1, ddof=1) + b.var(1, ddof=1)) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = np.where(mean == 0, 0.0, _hedges(a.shape[1] + b.shape[1] - 2) * mean / _positive(pooled, mean))
    return Difference(mean, pooled, mean - half, mean + half, p, effect, "Welch")


@dataclass(frozen=True)
class OneSided:
    """A difference of means, its two-sided confidence limits, and the one-sided p-value against a margin."""

    mean: Floats
    low: Floats
    high: Floats
    p: Floats


def one_sided_difference(
    first: ArrayLike, second: ArrayLike, margin: float = 0.0, *, paired: bool, alpha: float = ALPHA
) -> OneSided:
    """Test whether first - second is more than a margin: Student's t of the pairs, or Welch's t.

    The hypothesis that is rejected is that the mean difference is the margin or less. Differences without any
    spread prove no more than a permutation test of so few values could.

    Args:
        first: shape (rows, n), n of at least 2, finite.
        second: shape (rows, m); if paired, m is n, and the values are of the same seeds.
        margin: in the unit of the values.
        paired: of the same seeds in the same order.
        alpha: 1 - confidence of the interval.
    """
    a, b = _rows(first), _rows(second)
    mean = a.mean(1) - b.mean(1)
    freedom: Any
    if paired:
        n = a.shape[1]
        error, freedom, fewest = (a - b).std(1, ddof=1) / np.sqrt(n), n - 1, 0.5**n
    else:
        error, freedom = welch_error(a, b)
        fewest = 1 / special.binom(a.shape[1] + b.shape[1], a.shape[1])
    half = special.stdtrit(freedom, 1 - alpha / 2) * error
    size = np.maximum(np.abs(mean), abs(margin))
    spread = error > 1e-12 * np.maximum(size, 1e-300)
    t = np.divide(mean - margin, error, out=np.zeros_like(mean), where=spread)
    p = np.where(spread, special.stdtr(freedom, -t), np.where(mean - margin > 1e-12 * size, fewest, 1.0))
    return OneSided(mean, mean - half, mean + half, p)


def welch_error(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    """Standard error of a difference of two means, and its degrees of freedom (Welch-Satterthwaite)."""
    a, b = _rows(first), _rows(second)
    of_a, of_b = a.var(1, ddof=1) / a.shape[1], b.var(1, ddof=1) / b.shape[1]
    total = of_a + of_b
    inverse = of_a**2 / (a.shape[1] - 1) + of_b**2 / (b.shape[1] - 1)
    freedom = np.divide(total**2, inverse, out=np.full_like(total, a.shape[1] + b.shape[1] - 2), where=inverse > 0)
    return np.sqrt(total), freedom


def holm(p: ArrayLike) -> Floats:
    """Correct the p-values of a family so that the chance of any false positive keeps the level (Holm 1979).

    Args:
        p: shape (comparisons,); NaN is no comparison and stays.
    """
    values = np.asarray(p, dtype=float)
    adjusted = np.full_like(values, np.nan)
    there = np.flatnonzero(~np.isnan(values))
    order = there[np.argsort(values[there], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted


def seeds_needed(std: ArrayLike, resolution: float, alpha: float = ALPHA, power: float = POWER) -> NDArray[np.int64]:
    """Seeds with which a paired t-test finds a difference of the resolution, with the power.

    Args:
        std: standard deviation of the paired differences, shape (rows,).
        resolution: the difference to find, in the unit of the standard deviation.
        alpha: two-sided level of the test.
        power: probability of finding it.

    Returns:
        At least 2 and at most 1001, which stands for more than 1000.
    """
    n = np.arange(2, MOST_SEEDS + 1)
    quantiles = special.stdtrit(n - 1, 1 - alpha / 2) + special.stdtrit(n - 1, power)
    smallest = quantiles / np.sqrt(n)  # falls with n; in units of the standard deviation
    ratio = resolution / np.maximum(np.asarray(std, dtype=float), 1e-300)
    return np.asarray(2 + np.searchsorted(-smallest, -ratio, side="left"), dtype=np.int64)


def area_under_curve(x: ArrayLike, y: ArrayLike) -> Floats:
    """Mean height of a piecewise linear curve between its first and its last point; shape (rows, points) to (rows,)."""
    a, b = np.asarray(x, dtype=float), _rows(y)
    return np.asarray((b[:, 1:] + b[:, :-1]) / 2 @ np.diff(a) / (a[-1] - a[0]))


def largest_keeping(x: ArrayLike, y: ArrayLike, level: float) -> Floats:
    """The largest x at which a piecewise linear curve is at or above a level.

    Args:
        x: increasing, shape (points,).
        y: shape (rows, points).
        level: the height.

    Returns:
        Shape (rows,): NaN where the whole curve is below, infinite where its last point is not.
    """
    a, b = np.asarray(x, dtype=float), _rows(y)
    above = b >= level
    last = b.shape[1] - 1 - np.argmax(above[:, ::-1], axis=1)
    following = np.minimum(last + 1, b.shape[1] - 1)
    each = np.arange(len(b))
    here, there = b[each, last], b[each, following]
    fraction = np.divide(here - level, here - there, out=np.zeros(len(b)), where=here > there)
    found = a[last] + fraction * (a[following] - a[last])
    return np.where(~above.any(1), np.nan, np.where(above[:, -1], np.inf, found))


@dataclass(frozen=True)
class Ranking:
    """Mean ranks (1 is best), the difference of two that is significant, and Friedman's p-value."""

    ranks: Floats
    critical_difference: float
    p: float


def rank_treatments(scores: ArrayLike, alpha: float = ALPHA) -> Ranking:
    """Rank treatments over blocks: Friedman's test and Nemenyi's critical difference.

    Args:
        scores: shape (blocks, treatments), larger is better; ties share their mean rank.
        alpha: level of both.

    Returns:
        The critical difference and p are NaN with one block or one treatment.

    Source: Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7 (2006), section 3.2.2.
    """
    from scipy import stats  # half a second, for this alone

    s = np.asarray(scores, dtype=float)
    blocks, treatments = s.shape
    ranks = stats.rankdata(-s, axis=1)
    mean = ranks.mean(0)
    if blocks < 2 or treatments < 2:
        return Ranking(mean, np.nan, np.nan)
    quantile = float(stats.studentized_range.ppf(1 - alpha, treatments, np.inf)) / np.sqrt(2)
    critical = quantile * np.sqrt(treatments * (treatments + 1) / (6 * blocks))
    # Friedman's statistic in the form that is right with ties (Conover 1999, equation 5.8.2).
    spread = ((ranks - (treatments + 1) / 2) ** 2).sum()
    between = (blocks * (mean - (treatments + 1) / 2) ** 2).sum()
    p = float(stats.chi2.sf(blocks * (treatments - 1) * between / spread, treatments - 1)) if spread else 1.0
    return Ranking(mean, float(critical), p)


def _rows(values: ArrayLike) -> Floats:
    x: Any = np.asarray(values, dtype=float)
    if x.ndim != 2:
        raise ValueError(f"values must have the shape (rows, n), not {x.shape}")
    return x  # type: ignore[no-any-return]


def _positive(std: Floats, mean: Floats) -> Floats:
    """A standard deviation to divide by: rounding errors of equal values are none."""
    return np.where(std > 1e-12 * np.abs(mean), std, 0.0)


def _hedges(freedom: int) -> float:
    """Correction of a standardized mean difference for few values (Hedges 1981, equation 6e)."""
    if freedom < 2:
        return 1.0
    return float(np.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2))
