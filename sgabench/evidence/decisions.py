"""From contrasts to verdicts: what is better, worse, the same within a resolution, or undecided.

A verdict is what its interval says: one that excludes zero is a difference, one inside the resolution is none that
matters. The intervals of a report are as wide as it takes for all its verdicts to be right at once, with 95 %:

- Whole curves share 3.5 % by Holm's procedure (1979): a difference is shown at 3.5 % / (curves without one), again
  until no more are. That two curves are the same is shown at 3.5 % / (curves): what is not different frees nothing,
  because the one that is left would be the most different of all.
- Single ratios of a curve share 1.5 % / (curves), in the same way, and only if the curve is decided (serial
  gatekeeping; Dmitrienko, Offen and Westfall, "Gatekeeping strategies for clinical trials", 2003). A fifth of it is for
  dense networks. If all curves differ, the 3.5 % are left to the details, too.

Simulation shows that at most 5 % of reports with five seeds or more are wrong where spreads differ (docs/metrics.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sgabench.evidence.contrasts import Contrasts
from sgabench.evidence.intervals import Floats

CURVES = 0.035
DETAILS = 0.015
FEWEST = 3  # seeds: with two, no procedure keeps its error rate if networks collapse now and then
RESOLUTION = 0.02  # of accuracy: two points
ERRORS = 2.0  # least size of a difference, in standard errors of the accuracy
MOST_SEEDS = 1000

Outcomes = NDArray[np.object_]


@dataclass(frozen=True)
class Decisions:
    """The verdicts of comparisons, an array element each.

    Attributes:
        outcome: ``better``, ``worse``, ``same``, ``undecided``, ``few`` (fewer than `FEWEST` seeds) or ``none`` (no
            seed that both have).
        level: 1 - confidence of the interval.
        low, high: limits of the difference of accuracy; NaN without a verdict.
        p: two-sided, of no difference, not corrected: what ``level`` is compared with.
    """

    outcome: Outcomes
    level: Floats
    low: Floats
    high: Floats
    p: Floats

    @property
    def decided(self) -> NDArray[np.bool_]:
        """Whether the question is answered."""
        return np.asarray(np.isin(self.outcome, ("better", "worse", "same")))


def decide(
    found: Contrasts,
    family: NDArray[np.int64],
    budget: Floats,
    resolution: float = RESOLUTION,
    opened: NDArray[np.bool_] | None = None,
) -> Decisions:
    """Judge comparisons, each family with an error rate of its own.

    Args:
        found: the comparisons.
        family: the family of each, counted from 0.
        budget: the chance of any wrong verdict in each family.
        resolution: a difference of accuracy that does not matter.
        opened: those that may be decided; the others' intervals always include zero. Default: all.
    """
    number = len(found.estimate)
    opened = np.ones(number, dtype=bool) if opened is None else opened
    known = (found.n >= FEWEST) & np.isfinite(found.variance)
    outcome = np.where(known, "undecided", np.where(found.n >= 1, "few", "none")).astype(object)
    p = np.where(known, found.p(), np.nan)
    # Where points and log-odds disagree, only the shapes of distributions may differ, and nothing is claimed.
    agree = np.sign(found.estimate) == np.sign(found.difference)
    may_differ = opened & agree & ~(np.abs(found.difference) < ERRORS * found.error)
    counts = np.bincount(family[known], minlength=len(budget))
    level = np.where(known, (budget / np.maximum(counts, 1))[family], np.nan)
    low, high = found.interval(level)
    inside = (low >= -resolution) & (high <= resolution)
    outcome[known & opened & inside & ~(p <= level)] = "same"
    equal = outcome == "same"
    while True:
        left = known & ~np.isin(outcome, ("better", "worse"))
        shares = budget / np.maximum(np.bincount(family[left], minlength=len(budget)), 1)
        level = np.where(left & ~equal, shares[family], level)
        shown = left & ~equal & may_differ & (p <= level)
        if not shown.any():
            break
        outcome[shown & (found.difference > 0)] = "better"
        outcome[shown & (found.difference < 0)] = "worse"
    # Holm's last level is for differences only: an interval that it narrows into the resolution is not shown.
    narrow = found.interval(level)
    undecided = outcome == "undecided"
    usable = ~undecided | (narrow[0] < -resolution) | (narrow[1] > resolution)
    level = np.where(usable, level, (budget / np.maximum(counts, 1))[family])
    low, high = np.where(usable, narrow[0], low), np.where(usable, narrow[1], high)
    low, high = np.where(undecided, np.minimum(low, 0.0), low), np.where(undecided, np.maximum(high, 0.0), high)
    return Decisions(outcome, level, low, high, p)


def seeds_to_decide(found: Contrasts, decisions: Decisions, resolution: float = RESOLUTION) -> NDArray[np.int64]:
    """Further seeds that would decide what is undecided, if difference and spread stay the same.

    Returns:
        Shape (comparisons, 2): with probability 1/2 and 9/10; 0 where nothing is open, `MOST_SEEDS` where it takes at
        least as many.
    """
    needed = np.zeros((len(found.n), 2), dtype=np.int64)
    at = np.flatnonzero(decisions.outcome == "undecided")
    n, level, freedom, variance = (x[at] for x in (found.n, decisions.level, found.freedom, found.variance))
    size, points, slope = np.abs(found.estimate[at]), np.abs(found.difference[at]), found.slope()[at]

    def decides(more: NDArray[np.int64], power: float) -> NDArray[np.bool_]:
        total = n + more
        degrees = freedom / (n - 1) * (total - 1)
        quantiles = special.stdtrit(degrees, 1 - level / 2) + special.stdtrit(degrees, power)
        reserve = quantiles * np.sqrt(variance * n / total)
        return np.asarray((size >= reserve) | (points + reserve * slope <= resolution))

    for column, power in enumerate((0.5, 0.9)):
        low, high = np.zeros(len(at), dtype=np.int64), np.full(len(at), MOST_SEEDS)
        while (high - low > 1).any():  # if a number of seeds is enough, so is a larger one
            middle = (low + high) // 2  # 0 only where 1 is found: it stays
            enough = decides(np.maximum(middle, 1), power)
            low = np.where(enough, low, middle)
            high = np.where(enough, np.maximum(middle, 1), high)
        needed[at, column] = high
    return needed
