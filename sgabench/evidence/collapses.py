"""Networks that collapsed, to chance or far below every network before; judged by counting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sgabench.evidence.intervals import Floats

COLLAPSED = 0.01  # error rate that a gate spends on counts of collapses
FAR = 0.5  # part of the worst earlier network's margin over chance; whoever keeps less has collapsed
GUESSES = 3.0  # standard deviations above chance that are still no better than guessing


def chance_limit(classes: int, images: int) -> float:
    """The highest accuracy that is no better than guessing."""
    chance = 1 / classes
    return float(chance + GUESSES * np.sqrt(chance * (1 - chance) / images))


def collapsed(first: ArrayLike, second: ArrayLike, classes: int, images: int) -> tuple[int, int]:
    """Collapses on each side: at chance, or on the first side with less than half the second's worst margin over it."""
    chance = 1 / classes
    limit = max(chance_limit(classes, images), chance + FAR * (float(np.min(second)) - chance))
    of_second = np.asarray(second) <= chance_limit(classes, images)
    return int((np.asarray(first) <= limit).sum()), int(of_second.sum())


def p_more(first: int, n: int, second: int, m: int) -> float:
    """Chance of at least so many collapses among the n networks of the first side, if both sides are alike.

    Fisher's exact test where both sides count networks at chance. Where the limit is the second side's worst network,
    the test of Rosenbaum, "Tables for a nonparametric test of location", 1954; conservative where it is far below.
    """
    total = first + second
    ways = sum(math.comb(n, k) * math.comb(m, total - k) for k in range(first, min(n, total) + 1))
    return ways / math.comb(n + m, total)


def p_fallen(fell: int, left: int) -> float:
    """Chance of at least so many falls to chance among the pairs that fell or left it, if both are equally likely.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947; exact.
    """
    changed = fell + left
    return float(sum(math.comb(changed, k) for k in range(fell, changed + 1)) / 2**changed)


def holm_of_counts(counts: Sequence[tuple[int, int, int, int]]) -> Floats:
    """`p_more` of each, corrected for the number of comparisons that could be significant at all.

    Source: Tarone, "A modified Bonferroni method for discrete data", 1990: comparisons
    that could not get below the level, however their collapses were divided between the sides, are not counted.

    Args:
        counts: collapses and networks of the first side, then of the second, for each comparison.
    """
    p = np.array([p_more(*count) for count in counts], dtype=float)
    least = np.array([p_more(min(a + b, n), n, a + b - min(a + b, n), m) for a, n, b, m in counts], dtype=float)
    number = next((k for k in range(1, len(p) + 1) if (least <= COLLAPSED / k).sum() <= k), 1)
    usable = least <= COLLAPSED / number
    corrected = np.ones(len(p))
    corrected[usable] = np.minimum(1.0, p[usable] * number)
    return corrected
