"""What a new measurement shows compared with an earlier one: worse, not worse, better, or nothing yet.

Three outcomes, each with an error rate of its own:

- worse (or better) by more than a tolerance: all comparisons share 4 % by Holm's procedure (1979), so that a set of
  comparisons in which nothing is worse by more than that is called worse in at most 4 %; collapses have 1 %;
- not worse by more than a margin: 5 % for each. All must be shown for the set to pass, and one that is worse by more
  than its margin is enough to stop it: intersection-union, nothing to correct (Berger, "Multiparameter hypothesis
  testing and acceptance sampling", 1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sgabench.evidence.contrasts import STRETCH, Contrasts
from sgabench.evidence.decisions import MOST_SEEDS, Outcomes
from sgabench.evidence.intervals import ALPHA, Floats, log_odds

FARTHEST = 40.0  # log-odds; no accuracy that is a count moves so far
HALVINGS = 40
POWER = (0.5, 0.9)
WORSE = 0.04


@dataclass(frozen=True)
class Shown:
    """The outcome of comparisons, an array element each.

    Attributes:
        outcome: ``worse``, ``better``, ``held`` (not worse by more than the margin) or ``undecided``.
        low: lower limit of the difference, at 5 %; not below minus the margin where the outcome is ``held``.
        high: upper limit, corrected; below minus the tolerance where the outcome is ``worse``.
        p: one-sided, corrected, for worse (or better) by more than the tolerance.
        more_seeds: shape (comparisons, 2): further seeds that would decide a difference and a spread like those
            observed, with probability 1/2 and 9/10; 0 where the outcome is not ``undecided``.
    """

    outcome: Outcomes
    low: Floats
    high: Floats
    p: Floats
    more_seeds: NDArray[np.int64]


def show(found: Contrasts, tolerance: Floats, margin: Floats) -> Shown:
    """Judge differences first - second, where first is the new measurement.

    Args:
        found: the comparisons, each with at least two seeds on both sides.
        tolerance: accuracy that may be lost, for each.
        margin: loss that must be ruled out, for each; at least the tolerance.
    """
    error = np.sqrt(found.variance)
    p_worse = special.stdtr(found.freedom, (found.estimate - _shift(found, -tolerance)) / error)
    p_better = special.stdtr(found.freedom, (_shift(found, tolerance) - found.estimate) / error)
    # Where points and log-odds disagree on the direction, it depends on skewness alone, and nothing is claimed.
    p_worse = np.where(found.difference < -tolerance, p_worse, 1.0)
    p_better = np.where(found.difference > tolerance, p_better, 1.0)
    corrected, better = holm(p_worse), holm(p_better)
    worst = _shift(found, -margin)
    p_held = special.stdtr(found.freedom, (worst - found.estimate) / error)
    outcome = np.full(len(error), "undecided", dtype=object)
    outcome[(p_held <= ALPHA) & (found.difference >= -margin)] = "held"
    outcome[better <= WORSE] = "better"
    outcome[corrected <= WORSE] = "worse"
    level = np.minimum(
        np.divide(WORSE * p_worse, corrected, out=np.full(len(error), WORSE), where=corrected > 0), WORSE
    )
    low, high = found.interval(2 * ALPHA)[0], found.interval(2 * level)[1]
    p = np.where(outcome == "better", better, corrected)
    return Shown(outcome, low, high, p, _more_seeds(found, outcome, _shift(found, -tolerance), worst, level))


def usual_spreads(sides: Sequence[Floats], images: Sequence[float], family: Sequence[object]) -> Floats:
    """Standard deviation of a seed's mean accuracy: its own, but no less than what is usual in its family.

    Now and then a few seeds hardly differ. The usual spread is one of log-odds, converted to accuracy at each mean.

    Args:
        sides: of one measurement, shape (seeds, ratios) each; with one seed there is no spread of its own.
        images: how many test images each accuracy counts.
        family: those of the same family are expected to spread alike.
    """
    middles = [(side.mean(0) * count + 0.5) / (count + 1) for side, count in zip(sides, images, strict=True)]
    slopes = np.array([float((middle * (1 - middle)).mean()) for middle in middles])
    own, of_odds = np.zeros(len(sides)), np.full(len(sides), np.nan)
    for place, (side, count) in enumerate(zip(sides, images, strict=True)):
        if len(side) > 1:
            own[place] = side.mean(1).std(ddof=1)
            of_odds[place] = log_odds(side, count).mean(1).var(ddof=1)
    usual = np.zeros(len(sides))
    for block in set(family):
        at = np.array([each == block for each in family])
        known = of_odds[at & ~np.isnan(of_odds)]
        usual[at] = np.sqrt(known.mean()) if len(known) else 0.0
    return np.asarray(np.maximum(own, usual * slopes))


def holm(p: ArrayLike) -> Floats:
    """p-values corrected for all of them (Holm, "A simple sequentially rejective multiple test procedure", 1979)."""
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def _shift(found: Contrasts, points: Floats) -> Floats:
    """The difference of log-odds that `Contrasts.points` converts to these points, by bisection."""
    with np.errstate(invalid="ignore", divide="ignore"):
        stretch = np.clip(np.nan_to_num(found.difference / found.points(found.estimate), nan=1.0), *STRETCH)
    low, high = np.full(len(points), -FARTHEST), np.full(len(points), FARTHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = stretch * found.points(middle) > points
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.asarray((low + high) / 2)


def _more_seeds(found: Contrasts, outcome: Outcomes, worse: Floats, worst: Floats, level: Floats) -> NDArray[np.int64]:
    needed = np.zeros((len(outcome), 2), dtype=np.int64)
    at = np.flatnonzero(outcome == "undecided")
    if not len(at):
        return needed
    n = found.n[at][:, None]
    grid = n + np.arange(1, MOST_SEEDS + 1)
    freedom = found.freedom[at][:, None] / (n - 1) * (grid - 1)
    error = np.sqrt(found.variance[at][:, None] * n / grid)
    lost, kept = (worse - found.estimate)[at][:, None], (found.estimate - worst)[at][:, None]
    for column, power in enumerate(POWER):
        reserve = special.stdtrit(freedom, power)
        decided = lost >= (special.stdtrit(freedom, 1 - level[at][:, None]) + reserve) * error
        decided |= kept >= (special.stdtrit(freedom, 1 - ALPHA) + reserve) * error
        needed[at, column] = np.where(decided.any(1), decided.argmax(1) + 1, MOST_SEEDS)
    return needed
