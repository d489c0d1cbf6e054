"""From cells to arrays, which comparisons and curves are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sgabench.evidence.intervals import Floats

BLOCK = ["dataset", "model"]
CURVE = [*BLOCK, "pruner", "of"]
CONTEXT = [*CURVE, "ratio"]
MISSED = 0.02  # of what should remain: a pruner that leaves more than this above it missed its target


@dataclass(frozen=True)
class Cube:
    """The cells of one pruner on one data set and model.

    Attributes:
        optimizers: labels, in order of appearance.
        ratios: increasing.
        pruned: accuracy as it counts, shape (optimizers, seeds, ratios), NaN where it is unknown.
        dense: the same for the dense networks, shape (optimizers, seeds).
        planned: whether a seed was asked for, shape (optimizers, seeds).
        reached: the ratios that every network was pruned to.
        images: in the test split.
    """

    optimizers: list[Any]
    ratios: Floats
    pruned: Floats
    dense: Floats
    planned: NDArray[np.bool_]
    reached: NDArray[np.bool_]
    images: float

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Whether an optimizer has any result at a ratio, shape (optimizers, ratios)."""
        return np.asarray(~np.isnan(self.pruned).all(1))


Cubes: TypeAlias = Sequence[tuple[tuple[Any, ...], Cube]]  # each with its `CURVE`


def cubes(cells: pd.DataFrame) -> Cubes:
    """The cells of each `CURVE` as an array, in order of appearance.

    Args:
        cells: with `CONTEXT`, ``optimizer``, ``seed``, ``counted_top1``, ``counted_dense`` and ``test_images``.
    """
    found: list[tuple[tuple[Any, ...], Cube]] = []
    if cells.empty:
        return found
    curve, places = numbered(cells, CURVE)
    optimizer, optimizers = pd.factorize(cells["optimizer"])
    seed, _ = pd.factorize(cells["seed"])
    ratio = cells["ratio"].to_numpy(dtype=float)
    pruned, dense, images = (
        cells[name].to_numpy(dtype=float) for name in ("counted_top1", "counted_dense", "test_images")
    )
    missed = missed_targets(cells)
    order = np.argsort(curve, kind="stable")
    for place, rows in zip(
        places.itertuples(index=False, name=None), np.split(order, np.cumsum(np.bincount(curve))[:-1]), strict=True
    ):
        of_optimizer, present = pd.factorize(optimizer[rows])
        of_seed, seeds = pd.factorize(seed[rows])
        ratios, of_ratio = np.unique(ratio[rows], return_inverse=True)
        values = np.full((len(present), len(seeds), len(ratios)), np.nan)
        values[of_optimizer, of_seed, of_ratio] = pruned[rows]
        of_dense = np.full((len(present), len(seeds)), np.nan)
        of_dense[of_optimizer, of_seed] = dense[rows]
        planned = np.zeros(of_dense.shape, dtype=bool)
        planned[of_optimizer, of_seed] = True
        reached = np.bincount(of_ratio, missed[rows], minlength=len(ratios)) == 0
        known = images[rows][~np.isnan(images[rows])]
        count = float(known[0]) if len(known) else np.nan
        found.append((place, Cube(list(optimizers[present]), ratios, values, of_dense, planned, reached, count)))
    return found


def missed_targets(cells: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether a cell's pruner left more parameters or multiply-adds than it was asked to."""
    missed = np.zeros(len(cells), dtype=bool)
    for of, achieved in (("params", "compression_ratio"), ("macs", "theoretical_speedup")):
        if achieved in cells:
            removed = 1 - 1 / cells[achieved].to_numpy(dtype=float)
            with np.errstate(invalid="ignore"):
                missed |= (cells["of"] == of).to_numpy() & (removed < cells["ratio"].to_numpy(dtype=float) - MISSED)
    return missed


def numbered(frame: pd.DataFrame, columns: list[str]) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Number each row by its combination of values; also the combinations, in order of appearance."""
    numbers = np.zeros(len(frame), dtype=np.int64)
    for name in columns:
        codes, values = pd.factorize(frame[name])
        numbers, _ = pd.factorize(numbers * (len(values) + 1) + codes)
    first = np.flatnonzero(~pd.Series(numbers).duplicated())
    return np.asarray(numbers, dtype=np.int64), frame[columns].iloc[first].reset_index(drop=True)
