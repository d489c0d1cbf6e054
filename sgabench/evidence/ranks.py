"""Optimizers over several data sets and models: ranks, and performance profiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sgabench.evidence.cubes import BLOCK, missed_targets, numbered
from sgabench.evidence.intervals import ALPHA, Floats

RESAMPLES = 1000


@dataclass(frozen=True)
class Ranking:
    """Mean ranks (1 is best), the difference of two that is significant, and Friedman's p-value."""

    ranks: Floats
    critical_difference: float
    p: float


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of optimizers over blocks (data set, model), by the accuracy of their curves.

    A block's score is the mean over its pruners, which share the trained networks and so are not blocks themselves.

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
    """How often each optimizer reaches at least a given accuracy, over the runs of several blocks.

    Attributes:
        optimizers: their labels.
        blocks: how many there are.
        runs: of each optimizer, in all blocks.
        levels: accuracies, increasing.
        share: of runs with at least that accuracy, each block counting alike, shape (optimizers, levels), and its 95 %
            limits by a bootstrap of seeds within the blocks.
        interquartile: mean of the middle half of all runs, shape (optimizers,), and its limits.
        left_out: optimizers that lack a block.
    """

    optimizers: tuple[str, ...]
    blocks: int
    runs: int
    levels: Floats
    share: Floats
    share_low: Floats
    share_high: Floats
    interquartile: Floats
    interquartile_low: Floats
    interquartile_high: Floats
    left_out: tuple[str, ...] = ()


def profiles(cells: pd.DataFrame, levels: int = 51) -> Profiles | None:
    """Performance profiles over the blocks (data set, model) of a suite; None with fewer than two.

    A run is a trained network; its score is the mean of its pruned accuracies over all pruners and ratios that every
    optimizer has. All optimizers draw the same seeds in each resample, because they are paired; seeds that one lacks
    are left out.

    Source: Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021,
    sections 4.2 and 4.3: stratified bootstrap, performance profiles, interquartile mean.
    """
    if cells.empty:
        return None
    block, places = numbered(cells, BLOCK)
    optimizer, labels = pd.factorize(cells["optimizer"])
    counts = (cells["ratio"] > 0) & cells["counted_top1"].notna()
    rows = [of_block for number in range(len(places)) if len(of_block := np.flatnonzero(counts & (block == number)))]
    if len(rows) < 2:
        return None
    everywhere = set.intersection(*({*optimizer[of_block]} for of_block in rows))
    chosen = np.array([number in everywhere for number in range(len(labels))])
    names = labels[chosen]
    scores = [found for part in _parts(cells, optimizer, rows, chosen) if (found := _scores(*part)).shape[1]]
    if len(scores) < 2 or len(names) < 2:
        return None
    at = np.linspace(0, 1, levels)
    random = np.random.default_rng(0)
    drawn = [random.integers(0, s.shape[1], (RESAMPLES, s.shape[1])) for s in scores]
    each_once = [np.arange(s.shape[1])[None] for s in scores]
    share, middle = _shares(scores, at, each_once)[0], _middles(scores, each_once)[0]
    limits = [ALPHA / 2, 1 - ALPHA / 2]
    share_low, share_high = np.quantile(_shares(scores, at, drawn), limits, axis=0)
    low, high = np.quantile(_middles(scores, drawn), limits, axis=0)
    left_out = tuple(str(name) for name in labels if name not in names)
    runs = sum(s.shape[1] for s in scores)
    named = tuple(map(str, names))
    return Profiles(named, len(scores), runs, at, share, share_low, share_high, middle, low, high, left_out)


Codes = NDArray[np.int64]


def _parts(
    cells: pd.DataFrame, optimizer: Codes, rows: list[Codes], chosen: NDArray[np.bool_]
) -> Iterator[tuple[Codes, Codes, Codes, Floats, NDArray[np.bool_]]]:
    """For each block: numbers of optimizers, seeds and prunings, accuracies, and whether each missed its target."""
    pruning, _ = numbered(cells, ["pruner", "of", "ratio"])
    seed, _ = pd.factorize(cells["seed"])
    top1, missed = cells["counted_top1"].to_numpy(dtype=float), missed_targets(cells)
    for of_block in rows:
        at = of_block[chosen[optimizer[of_block]]]
        codes = [np.unique(code[at], return_inverse=True)[1] for code in (optimizer, seed, pruning)]
        yield codes[0], codes[1], codes[2], top1[at], missed[at]


def _scores(optimizer: Codes, seed: Codes, pruning: Codes, top1: Floats, missed: NDArray[np.bool_]) -> Floats:
    """The score of each run of a block, shape (optimizers, seeds); seeds that an optimizer lacks are left out."""
    values = np.full([code.max(initial=-1) + 1 for code in (optimizer, seed, pruning)], np.nan)
    values[optimizer, seed, pruning] = top1
    reached = np.bincount(pruning, missed, minlength=values.shape[2]) == 0
    common = reached & ~np.isnan(values).all(1).any(0)
    found = values[:, :, common].mean(2) if common.any() else np.full(values.shape[:2], np.nan)
    return np.asarray(found[:, ~np.isnan(found).any(0)])


def _shares(scores: list[Floats], levels: Floats, drawn: list[Codes]) -> Floats:
    """Shares of runs at or above each level, shape (resamples, optimizers, levels)."""
    times = [(picked[:, :, None] == np.arange(s.shape[1])).mean(1) for s, picked in zip(scores, drawn, strict=True)]
    runs = np.concatenate(scores, axis=1).T
    above = (runs[:, :, None] >= levels).reshape(len(runs), -1).astype(float)
    shares = np.concatenate(times, axis=1) @ above / len(scores)
    return np.asarray(shares.reshape(len(shares), runs.shape[1], len(levels)))


def _middles(scores: list[Floats], drawn: list[NDArray[np.int64]]) -> Floats:
    """Interquartile means, shape (resamples, optimizers)."""
    pooled = np.concatenate([s.T[picked] for s, picked in zip(scores, drawn, strict=True)], axis=1)
    pooled.sort(axis=1)
    cut = pooled.shape[1] // 4
    return np.asarray(pooled[:, cut : pooled.shape[1] - cut].mean(1))


def _mean_of_complete(values: pd.Series[float]) -> float:
    return float(values.mean(skipna=False))
