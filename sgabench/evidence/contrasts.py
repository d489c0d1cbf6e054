"""Contrasts of two sides of the same prunings: the size of the difference, and its precision.

Accuracies are compared as log-odds, where a step from 98 to 99 % is as long as one from 50 to 67 %, and whole curves at
once: the mean over the ratios of a pruner. All functions take many comparisons; seeds and ratios are the last axes.

The variance of a few seeds is estimated poorly, so each estimate borrows information, where that does no harm:

1. from the ratios of the same curve. Each has a variance of its own; their sum, inflated for the correlation of
   the ratios, is the variance of their mean. The inflation is pooled over the comparisons of a data set and model.
   Degrees of freedom: Satterthwaite, "An approximate distribution of estimates of variance components", 1946;
2. from the other comparisons of the data set and model: variances are moderated (Smyth, "Linear models and empirical
   Bayes methods for assessing differential expression", 2004, section 6.2), the others counting at most as much as two
   degrees of freedom, since optimizers do spread differently, and less where they are one or two.

Before the second step it is never less than the variance of the means over the ratios themselves, nor than that of
counting whole images. A comparison with a larger variance than the borrowed one borrows proportionally fewer degrees of
freedom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sgabench.evidence.intervals import Floats, log_odds

SHARED = 0.25  # correlation of the variances of two differences from one reference, all spreads equal
STRETCH = (0.5, 2.0)
FLAT = 1e5  # degrees of freedom of a prior that knows the variance
MOST = 2.0  # degrees of freedom that the other comparisons weigh and lend
OF_RATIOS = 0.75  # of the degrees of freedom that ratios lend: how much they go together is not the same everywhere


@dataclass(frozen=True)
class Sides:
    """Comparisons of the same shape.

    Attributes:
        place: the number of each comparison among all that are judged together, shape (rows,).
        family: the number of its data set and model, shape (rows,).
        first, second: top-1 accuracy in [0, 1], shapes (rows, n, ratios) and (rows, m, ratios).
        images: how many test images each accuracy counts, shape (rows,).
        paired: whether both sides have the same seeds in the same order; then m is n.
    """

    place: NDArray[np.int64]
    family: NDArray[np.int64]
    first: Floats
    second: Floats
    images: Floats
    paired: bool

    def odds(self) -> tuple[Floats, Floats]:
        """Both sides as log-odds."""
        images = self.images[:, None, None]
        return log_odds(self.first, images), log_odds(self.second, images)


@dataclass(frozen=True)
class Contrasts:
    """Estimates of the differences first - second, an array element each, by place.

    Attributes:
        n: seeds; of the smaller side if they are not paired.
        estimate: mean difference of the log-odds over seeds and ratios.
        variance: of the estimate.
        freedom: degrees of freedom of the variance.
        difference: mean difference of the accuracy.
        error: its standard error, without borrowing.
        parts: the accuracies, to convert differences of log-odds to points.
    """

    n: NDArray[np.int64]
    estimate: Floats
    variance: Floats
    freedom: Floats
    difference: Floats
    error: Floats
    parts: Sequence[Sides] = field(repr=False)

    def p(self) -> Floats:
        """Two-sided p-values of no difference; NaN where there is no variance."""
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.where(self.estimate == 0, 0.0, np.abs(self.estimate) / np.sqrt(self.variance))
            return np.asarray(2 * special.stdtr(self.freedom, -t))

    def interval(self, level: ArrayLike) -> tuple[Floats, Floats]:
        """Confidence limits of the difference of accuracy, which excludes zero where p is below the level.

        The limits of the log-odds are converted to points by shifting the second side up to them and the first side
        down, and taking the mean of both. A shift moves all ratios alike, a real difference does not: the scale is
        stretched so that the estimate becomes the measured difference, which is always inside.

        Args:
            level: 1 - confidence, for each.

        Returns:
            Lower and upper limits; NaN where there is no variance.
        """
        half = special.stdtrit(self.freedom, 1 - np.asarray(level) / 2) * np.sqrt(self.variance)
        with np.errstate(invalid="ignore", divide="ignore"):
            stretch = np.clip(np.nan_to_num(self.difference / self.points(self.estimate), nan=1.0), *STRETCH)
        low, high = (stretch * self.points(self.estimate + side) for side in (-half, half))
        low, high = np.fmax(np.fmin(low, self.difference), -1), np.fmin(np.fmax(high, self.difference), 1)
        unknown = np.isnan(half)
        return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)

    def slope(self) -> Floats:
        """Difference of accuracy for a small difference of log-odds, around what was measured."""
        step = 0.05
        return (self.points(np.full_like(self.estimate, step)) - self.points(np.full_like(self.estimate, -step))) / (
            2 * step
        )

    def points(self, shift: Floats) -> Floats:
        """Convert shifts of the log-odds, from one side to the other, to accuracy."""
        points = np.full(len(self.estimate), np.nan)
        for part in self.parts:
            a, b = part.odds()
            by = shift[part.place][:, None, None]
            up = (special.expit(b + by) - special.expit(b)).mean((1, 2))
            down = (special.expit(a) - special.expit(a - by)).mean((1, 2))
            points[part.place] = (up + down) / 2
        return points


def contrasts(parts: Sequence[Sides], number: int) -> Contrasts:
    """Compare both sides of every comparison.

    Args:
        parts: the comparisons, gathered by shape.
        number: how many comparisons there are; those that are in no part stay unknown.
    """
    n = np.zeros(number, dtype=np.int64)
    unknown = [np.full(number, np.nan) for _ in range(5)]
    estimate, variance, freedom, difference, error = unknown
    family = np.full(number, -1)
    parts = [part for part in parts if len(part.place)]
    spreads = [_spreads(part) for part in parts]
    counts = np.bincount(np.concatenate([part.family for part in parts])) if parts else np.zeros(0)
    together, alike = _pooled(spreads, _Spread.together), _pooled(spreads, _Spread.alike)
    for part, sides in zip(parts, spreads, strict=True):
        at = part.place
        a, b = part.odds()
        n[at] = min(part.first.shape[1], part.second.shape[1])
        family[at] = part.family
        estimate[at] = a.mean((1, 2)) - b.mean((1, 2))
        difference[at] = part.first.mean((1, 2)) - part.second.mean((1, 2))
        if n[at[0]] < 2:
            continue
        error[at] = _error(part)
        of_family = together(part.family, 0.0), alike(part.family, 1.0), np.maximum(counts[part.family], 1)
        of_mean = [side.of_mean(*of_family) for side in sides]
        total = sum(v for v, _ in of_mean)
        variance[at] = total
        with np.errstate(invalid="ignore", divide="ignore"):
            inverse = sum(v**2 / df for v, df in of_mean)
            freedom[at] = np.where(inverse > 0, total**2 / inverse, of_mean[0][1])
    for block in np.unique(family[~np.isnan(variance)]):
        at = np.flatnonzero((family == block) & ~np.isnan(variance))
        variance[at], freedom[at] = moderated(variance[at], freedom[at], n[at])
    return Contrasts(n, estimate, variance, freedom, difference, error, parts)


@dataclass(frozen=True)
class _Spread:
    """The variance over seeds of one side, or of paired differences; an element for each comparison."""

    n: int
    ratios: int
    family: NDArray[np.int64]
    own: Floats  # variance of the mean over ratios
    parts: Floats  # likewise, if ratios were uncorrelated
    squares: Floats
    least: Floats

    def of_mean(self, together: Floats, alike: Floats, others: Floats) -> tuple[Floats, Floats]:
        """Variance of the mean over the seeds, and its degrees of freedom.

        Args:
            together: correlation of the ratios, of each comparison's family.
            alike: 1 / the number of uncorrelated ratios of equal variance with as much information.
            others: comparisons in the family that the former two are estimated from.
        """
        pooled = self.parts * (1 + (self.ratios - 1) * together)
        alike = np.clip(alike, 1 / self.ratios, 1.0)
        independent = others / (1 + (others - 1) * SHARED)
        freedom = self.n - 1
        lent = OF_RATIOS * (freedom / (alike + (1 - alike) / independent) - freedom)
        variance = np.maximum(np.maximum(pooled, self.own), self.least)
        return variance / self.n, freedom + lent * _trust(pooled, self.own)

    def alike(self) -> Floats:
        """Sum of squared eigenvalues of the ratios' covariance / squared sum; NaN where it cannot be estimated.

        Without the bias of few seeds (Srivastava, "Some tests concerning the covariance matrix in high dimensional
        data", 2005, theorem 2.1).
        """
        freedom = self.n - 1
        if self.ratios == 1 or freedom < 2:
            return np.full(len(self.own), np.nan)
        squares = freedom**2 / ((freedom - 1) * (freedom + 2)) * (self.squares - self.parts**2 / freedom)
        with np.errstate(invalid="ignore", divide="ignore"):
            return squares / self.parts**2

    def together(self) -> Floats:
        """Correlation of the ratios: from 0 to 1, NaN where it cannot be estimated."""
        if self.ratios == 1:
            return np.full(len(self.own), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.own / self.parts - 1) / (self.ratios - 1)


def _error(part: Sides) -> Floats:
    """Standard error of the mean difference of the accuracy."""
    first, second = part.first.mean(2), part.second.mean(2)
    sides = [first - second] if part.paired else [first, second]
    return np.asarray(np.sqrt(sum(side.var(1, ddof=1) / side.shape[1] for side in sides)))


def _spreads(part: Sides) -> list[_Spread]:
    """Variances of the differences, if they are paired; else of each side."""
    a, b = part.odds()
    sides = [a - b] if part.paired else [a, b]
    accuracies = (part.first, part.second)
    rounding = [_rounding(accuracy, part.images) for accuracy in accuracies]
    least = [rounding[0] + rounding[1]] if part.paired else rounding
    return [_spread(x, part.family, floor) for x, floor in zip(sides, least, strict=True)]


def _spread(x: Floats, family: NDArray[np.int64], least: Floats) -> _Spread:
    rows, n, ratios = x.shape
    if n < 2:
        nothing = np.full(rows, np.nan)
        return _Spread(n, ratios, family, nothing, nothing, nothing, nothing)
    centered = x - x.mean(1, keepdims=True)
    covariance = np.einsum("bnr,bnq->brq", centered, centered) / (n - 1)
    own = covariance.sum((1, 2)) / ratios**2
    parts = np.trace(covariance, axis1=1, axis2=2) / ratios**2
    return _Spread(n, ratios, family, own, parts, (covariance**2).sum((1, 2)) / ratios**4, least)


def _rounding(accuracy: Floats, images: Floats) -> Floats:
    """Variance of a mean of log-odds, because answers are counted in whole images."""
    middle = (accuracy.mean(1) * images[:, None] + 0.5) / (images[:, None] + 1)
    step = 1 / (images[:, None] * middle * (1 - middle))
    return np.asarray((step**2 / 12).sum(1) / accuracy.shape[2] ** 2)


def _pooled(
    spreads: Sequence[Sequence[_Spread]], measure: Callable[[_Spread], Floats]
) -> Callable[[NDArray[np.int64], float], Floats]:
    """The mean of a measure over each family, as a function of families and of a default where it is unknown."""
    sides = [side for of_part in spreads for side in of_part]
    family = np.concatenate([side.family for side in sides]) if sides else np.zeros(0, dtype=np.int64)
    values = np.concatenate([measure(side) for side in sides]) if sides else np.zeros(0)
    known = np.isfinite(values)
    number = int(family.max(initial=-1)) + 1
    counts = np.bincount(family[known], minlength=number)
    means = np.bincount(family[known], values[known], minlength=number) / np.maximum(counts, 1)

    def of_families(asked: NDArray[np.int64], otherwise: float) -> Floats:
        return np.where(counts[asked] > 0, np.clip(means[asked], 0.0, 1.0), otherwise)

    return of_families


def moderated(variance: Floats, freedom: Floats, n: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Moderate the variances of the estimates of a family.

    Source: Smyth (2004), section 6.2, for the prior's variance and degrees of freedom; the latter allow for a shared
    reference, and are at most `MOST`, fewer where there are few others to know the prior from, and where one spreads
    more than they.

    Args:
        variance: of the estimates, shape (comparisons,), greater than 0.
        freedom: their degrees of freedom.
        n: seeds of each.

    Returns:
        Variances and degrees of freedom.
    """
    if len(variance) < 2:
        return variance, freedom
    of_seed = variance * n  # per seed, so that comparisons with few and many seeds can share
    logs = np.log(of_seed) - special.digamma(freedom / 2) + np.log(freedom / 2)
    center = logs.mean()
    excess = logs.var(ddof=1) / (1 - SHARED) - special.polygamma(1, freedom / 2).mean()
    prior = 2 * _inverse_trigamma(excess) if excess > 1e-4 else FLAT
    scale = np.exp(center + special.digamma(prior / 2) - np.log(prior / 2))
    weight = min(prior, MOST)
    shared = (weight * scale + freedom * of_seed) / (weight + freedom)
    # Degrees of freedom of the mean of two variances: the own one, and the mean of the others, all correlated.
    others = (len(variance) - 1) / (1 + (len(variance) - 2) * SHARED)
    lent = min(1.0, 4 / (1 + 1 / others + 2 * SHARED) - 1)
    return shared / n, freedom + lent * weight * _trust(shared, of_seed)


def _trust(lent: Floats, own: Floats) -> Floats:
    """The part of the borrowed degrees of freedom that counts: less if the own variance is above the borrowed one."""
    return np.asarray(np.divide(lent, own, out=np.ones_like(own), where=own > lent))


def _inverse_trigamma(value: float) -> float:
    """Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, y))
        change = trigamma * (1 - trigamma / value) / float(special.polygamma(2, y))
        y += change
        if -change / y < 1e-10:
            break
    return y
