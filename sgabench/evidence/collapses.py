"""Networks that collapsed: at chance, or far below all that were there before; judged by counting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sgabench.evidence.intervals import Floats

COLLAPSED = 0.01  # of the error rate of a gate: what counts of collapses may spend
FAR = 0.5  # of what the worst one was better than guessing
GUESSES = 3.0  # standard deviations of guesses that are no better than guessing


def chance_limit(classes: int, images: int) -> float:
    """The highest accuracy that is no better than guessing."""
    chance = 1 / classes
    return float(chance + GUESSES * np.sqrt(chance * (1 - chance) / images))


def collapsed(first: ArrayLike, second: ArrayLike, classes: int, images: int) -> tuple[int, int]:
    """How many of each side are at chance, or have lost half of what the worst of the second is above it."""
    chance = 1 / classes
    limit = max(chance_limit(classes, images), chance + FAR * (float(np.min(second)) - chance))
    of_second = np.asarray(second) <= chance_limit(classes, images)
    return int((np.asarray(first) <= limit).sum()), int(of_second.sum())


def p_more(first: int, n: int, second: int, m: int) -> float:
    """Chance of so many collapses on the first side of n, if both sides are alike.

    Fisher's exact test where both count what is at chance. Where the limit is the second side's worst, that is
    Rosenbaum, "Tables for a nonparametric test of location", 1954, and less where it is far below it.
    """
    total = first + second
    ways = sum(math.comb(n, k) * math.comb(m, total - k) for k in range(first, min(n, total) + 1))
    return ways / math.comb(n + m, total)


def p_fallen(fell: int, left: int) -> float:
    """Chance that so many pairs or more fell to chance, of those that either fell or left it, if both are as likely.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947; exact.
    """
    changed = fell + left
    return float(sum(math.comb(changed, k) for k in range(fell, changed + 1)) / 2**changed)


def holm_of_counts(counts: Sequence[tuple[int, int, int, int]]) -> Floats:
    """`p_more` of each, corrected for those that could be shown at all.

    Source: Tarone, "A modified Bonferroni method for discrete data", 1990: what cannot get below the level with so many
    collapses in all, however they fall, is not counted.

    Args:
        counts: collapses and number of networks, of the first side and of the second.
    """
    p = np.array([p_more(*count) for count in counts], dtype=float)
    least = np.array([p_more(min(a + b, n), n, a + b - min(a + b, n), m) for a, n, b, m in counts], dtype=float)
    number = next((k for k in range(1, len(p) + 1) if (least <= COLLAPSED / k).sum() <= k), 1)
    usable = least <= COLLAPSED / number
    corrected = np.ones(len(p))
    corrected[usable] = np.minimum(1.0, p[usable] * number)
    return corrected
