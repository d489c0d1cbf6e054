"""Optimizers over several data sets and models: ranks, and performance profiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sgabench.evidence.comparison import BLOCK
from sgabench.evidence.intervals import ALPHA, Floats

RESAMPLES = 2000


@dataclass(frozen=True)
class Ranking:
    """Mean ranks (1 is best), the difference of two that is significant, and Friedman's p-value."""

    ranks: Floats
    critical_difference: float
    p: float


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of optimizers over blocks (data set, model), by the accuracy of their curves.

    A block's score is the mean over its pruners, because pruners share the trained networks and are no blocks of their
    own.

    Attributes:
        table: ``optimizer`` and ``rank``, best first.
        blocks: how many there are.
        critical_difference: of two mean ranks (Nemenyi), NaN with fewer than two blocks.
        p: of Friedman's test.
        left_out: optimizers that lack a block.
    """

    table: pd.DataFrame
    blocks: int
    critical_difference: float
    p: float
    left_out: tuple[str, ...] = ()


def ranks(summaries: pd.DataFrame) -> Ranks:
    """Rank the optimizers of `sgabench.evidence.curves.curves`."""
    known = summaries.pivot_table(
        index=[*BLOCK, "pruner", "of"], columns="optimizer", values="accuracy", sort=False, dropna=False
    )
    scores = known.groupby(level=BLOCK, sort=False).agg(_mean_of_complete)
    complete = scores.dropna(axis=1)
    left_out = tuple(str(name) for name in summaries["optimizer"].unique() if name not in complete.columns)
    if complete.empty:
        return Ranks(pd.DataFrame(columns=["optimizer", "rank"]), 0, np.nan, np.nan, left_out)
    ranking = rank_treatments(complete.to_numpy())
    table = pd.DataFrame({"optimizer": complete.columns.astype(object), "rank": ranking.ranks})
    table = table.sort_values("rank", kind="stable").reset_index(drop=True)
    return Ranks(table, len(complete), ranking.critical_difference, ranking.p, left_out)


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


@dataclass(frozen=True)
class Profiles:
    """How often each optimizer keeps at least so much, over all runs of several blocks.

    Attributes:
        optimizers: their labels.
        levels: accuracies, increasing.
        share: of runs with at least that accuracy, each block counting alike, shape (optimizers, levels).
        low, high: 95 % limits by a bootstrap of seeds within the blocks.
        interquartile: mean of the middle half of all runs, shape (optimizers,), and its limits.
    """

    optimizers: tuple[str, ...]
    levels: Floats
    share: Floats
    low: Floats
    high: Floats
    interquartile: Floats
    interquartile_low: Floats
    interquartile_high: Floats


def profiles(cells: pd.DataFrame, levels: int = 51) -> Profiles | None:
    """Performance profiles over the blocks (data set, model) of a suite; None with fewer than two.

    A run is a trained network; its score is the mean of its pruned accuracies over all pruners and ratios. All
    optimizers draw the same seeds in each resample, because they are paired.

    Source: Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021,
    sections 4.2 and 4.3: stratified bootstrap, performance profiles, interquartile mean.
    """
    if cells.empty:
        return None
    blocks = []
    for _, part in cells.groupby(BLOCK, sort=False):
        per_cell = part.pivot_table(index=["optimizer", "seed"], values="counted_top1", aggfunc=_mean_of_complete)
        blocks.append(per_cell["counted_top1"].unstack("seed").dropna(axis=1))
    names = [name for name in cells["optimizer"].unique() if all(name in block.index for block in blocks)]
    blocks = [block.loc[names] for block in blocks if block.shape[1]]
    if len(blocks) < 2 or len(names) < 2:
        return None
    scores = [block.to_numpy(dtype=float) for block in blocks]
    at = np.linspace(0, 1, levels)
    random = np.random.default_rng(0)
    drawn = [_statistics(scores, at)]
    for _ in range(RESAMPLES):
        picked = [s[:, random.integers(0, s.shape[1], s.shape[1])] for s in scores]
        drawn.append(_statistics(picked, at))
    found, resampled = drawn[0], np.stack(drawn[1:])
    low, high = np.quantile(resampled, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    split = levels
    return Profiles(
        tuple(map(str, names)),
        at,
        found[:, :split],
        low[:, :split],
        high[:, :split],
        found[:, split],
        low[:, split],
        high[:, split],
    )


def _mean_of_complete(values: pd.Series[float]) -> float:
    return float(values.mean(skipna=False))


def _statistics(scores: list[Floats], levels: Floats) -> NDArray[np.float64]:
    """Shares of runs at or above each level, and the interquartile mean; shape (optimizers, levels + 1)."""
    share = np.mean([(s[:, :, None] >= levels).mean(1) for s in scores], axis=0)
    pooled = np.sort(np.concatenate(scores, axis=1), axis=1)
    cut = pooled.shape[1] // 4
    middle = pooled[:, cut : pooled.shape[1] - cut].mean(1)
    return np.column_stack([share, middle])
