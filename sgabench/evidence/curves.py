"""Cells to curves over ratios: what a whole curve keeps, and ranks of optimizers by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sgabench.evidence.budgets import IS_BUDGET
from sgabench.evidence.comparison import numbered
from sgabench.evidence.statistics import Floats, area_under_curve, largest_keeping, rank_treatments, summarize

CURVE = ["dataset", "model", "pruner", "of"]
KEEPS = (0.99, 0.95, 0.9)


def curves(cells: pd.DataFrame) -> pd.DataFrame:
    """Summaries of whole retention curves, a row per data set, model, pruner and optimizer.

    A curve starts at the dense network (retention 1 at ratio 0, or at an achieved budget of 1x) and is linear between
    ratios. Only seeds with every ratio count.

    Returns:
        `CURVE`, ``optimizer``, ``n``, ``largest_ratio`` that was tested, ``area`` (mean over seeds of the mean
        retention from ratio 0 to the largest), ``area_std``, ``area_low``, ``area_high``, and ``keeps_99``,
        ``keeps_95``, ``keeps_90``: the largest ratio at which the mean curve keeps that part of the dense accuracy,
        infinite if that lies beyond the tested range.
    """
    keeps = [f"keeps_{round(100 * level)}" for level in KEEPS]
    numbers = ["n", "largest_ratio", "area", "area_std", "area_low", "area_high", *keeps]
    if "retention" not in cells or cells.empty:
        return pd.DataFrame(columns=[*CURVE, "optimizer", *numbers])
    curve, table = numbered(cells, [*CURVE, "optimizer"])
    retention = cells["retention"].where(cells["status"] == "done")
    seed, ratio, kept = (column.to_numpy(dtype=float) for column in (cells["seed"], cells["ratio"], retention))
    start = np.where(table["of"].isin(list(IS_BUDGET)), 1.0, 0.0)
    found = np.full((len(numbers), len(table)), np.nan)
    found[0] = 0
    for curves, x, y in _alike(curve, seed, ratio, kept, start):
        found[1, curves] = x[-1]
        if y.shape[1]:
            area = summarize(area_under_curve(x, y.reshape(-1, len(x))).reshape(y.shape[:2]))
            found[0, curves] = y.shape[1]
            found[2:6, curves] = area.mean, area.std, area.low, area.high
            found[6:, curves] = [largest_keeping(x, y.mean(1), level) for level in KEEPS]
    table[numbers] = found.T
    return table[table["largest_ratio"].notna()].astype({"n": int}).reset_index(drop=True)


def _alike(
    curve: NDArray[np.int64], seed: Floats, ratio: Floats, retention: Floats, start: Floats
) -> Iterator[tuple[NDArray[np.intp], Floats, Floats]]:
    """Gather the curves that have the same ratios and the same number of complete seeds.

    Args:
        curve: number of each cell's curve.
        seed, ratio, retention: of each cell; retention is NaN where nothing is measured.
        start: the ratio of the dense network, of each curve.

    Yields:
        Numbers of curves, their ratios from the dense network's on, and retention, shape (curves, seeds, ratios).
        Curves of the dense network alone are left out.
    """
    by_curve = pd.DataFrame({"seed": seed, "ratio": ratio}).groupby(curve)
    of_seed, of_ratio = by_curve.rank(method="dense").to_numpy(dtype=int).T - 1
    sizes = by_curve.nunique().to_numpy()
    for size in np.unique(sizes, axis=0):
        curves = np.flatnonzero((sizes == size).all(1))
        place = np.full(len(sizes), -1)
        place[curves] = np.arange(len(curves))
        cells = np.flatnonzero(place[curve] >= 0)
        at = place[curve[cells]]
        x, y = np.empty((len(curves), size[1])), np.full((len(curves), *size), np.nan)
        x[at, of_ratio[cells]] = ratio[cells]
        y[at, of_seed[cells], of_ratio[cells]] = retention[cells]
        complete = np.asarray(~np.isnan(y).any(2))
        kinds, kind = np.unique(np.column_stack([complete.sum(1), start[curves], x]), axis=0, return_inverse=True)
        for number, (_, dense, *grid) in enumerate(kinds):
            here = np.flatnonzero(kind.ravel() == number)
            values = y[here][complete[here]].reshape(len(here), -1, size[1])
            if grid[0] > dense:
                grid = [dense, *grid]
                values = np.concatenate([np.ones((*values.shape[:2], 1)), values], axis=2)
            if len(grid) > 1:
                yield curves[here], np.array(grid), values


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of optimizers over blocks (data set, model, pruner), by the area under the retention curve.

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
    """Rank the optimizers of `curves`."""
    known = summaries[summaries["area"].notna()]
    areas = known.pivot_table(index=CURVE, columns="optimizer", values="area", sort=False)
    complete = areas.dropna(axis=1)
    left_out = tuple(str(name) for name in summaries["optimizer"].unique() if name not in complete.columns)
    if complete.empty:
        return Ranks(pd.DataFrame(columns=["optimizer", "rank"]), 0, np.nan, np.nan, left_out)
    ranking = rank_treatments(complete.to_numpy())
    table = pd.DataFrame({"optimizer": complete.columns.astype(object), "rank": ranking.ranks})
    table = table.sort_values("rank", kind="stable").reset_index(drop=True)
    return Ranks(table, len(complete), ranking.critical_difference, ranking.p, left_out)
