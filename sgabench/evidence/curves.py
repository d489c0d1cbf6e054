"""From cells to curves over ratios: how good a whole curve is, and how much of the dense accuracy it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sgabench.evidence.budgets import IS_BUDGET
from sgabench.evidence.cubes import CURVE, Cube, Cubes
from sgabench.evidence.decisions import RESOLUTION
from sgabench.evidence.intervals import Floats, summarize, summarize_accuracy
from sgabench.evidence.verdicts import NO_VERDICT, with_verdicts

KEEPS = (0.99, 0.95, 0.9)
_KEEPS = [f"keeps_{round(100 * level)}" for level in KEEPS]
NUMBERS = [
    "n",
    "ratios",
    "largest_ratio",
    "accuracy",
    "accuracy_std",
    "accuracy_low",
    "accuracy_high",
    "area",
    "area_low",
    "area_high",
    *_KEEPS,
]


def curves(of: Cubes, compared: pd.DataFrame, reference: str, resolution: float = RESOLUTION) -> pd.DataFrame:
    """Summarize whole curves, a row per data set, model, pruner and optimizer. Only seeds with every ratio count.

    Args:
        of: the cells, as `sgabench.evidence.comparison.cubes` gives them.
        compared: what `sgabench.evidence.comparison.compare` found.
        reference: the optimizer that the others are compared with.
        resolution: a difference of accuracy that does not matter.

    Returns:
        `CURVE`, ``optimizer``, ``n`` seeds, ``ratios`` that count, ``largest_ratio``; ``accuracy``, the mean over these
        ratios and seeds, with standard deviation over seeds and limits; ``area``, the mean retention from the dense
        network to the largest ratio, linear between ratios, with limits; ``keeps_99``, ``keeps_95``, ``keeps_90``, the
        largest ratio at which the mean curve keeps that part of the dense accuracy, infinite beyond the tested range;
        and the comparison with the reference.
    """
    columns = [*CURVE, "optimizer", *NUMBERS, *NO_VERDICT, "more_seeds", "most_seeds"]
    found = [(place, cube, alike) for place, cube in of for alike in _alike(cube)]
    if not found:
        return pd.DataFrame(columns=columns)
    numbers = [_summaries(place, cube, alike) for place, cube, alike in found]
    table = pd.DataFrame({name: np.concatenate([part[name] for part in numbers]) for name in NUMBERS})
    places = [(*place, cube.optimizers[i]) for place, cube, alike in found for i in alike.which]
    table = pd.concat([pd.DataFrame(places, columns=[*CURVE, "optimizer"]), table], axis=1)
    table[["n", "ratios"]] = table[["n", "ratios"]].astype(int)
    labels = dict.fromkeys(label for _, cube in of for label in cube.optimizers)
    order = {label: number for number, label in enumerate(labels)}
    curve = {place[:-1]: number for number, place in reversed(list(enumerate(places)))}
    ranks = [(curve[place[:-1]], order[place[-1]]) for place in places]
    table = table.iloc[np.lexsort(np.array(ranks).T[::-1])].reset_index(drop=True)
    return with_verdicts(table, compared[compared["ratio"].isna()], reference, resolution)[columns]


@dataclass(frozen=True)
class _Alike:
    """Optimizers of a cube with the same ratios and equally many complete seeds.

    Attributes:
        which: their numbers.
        ratios: increasing.
        pruned: shape (optimizers, seeds, ratios).
        dense: shape (optimizers, seeds).
    """

    which: NDArray[np.intp]
    ratios: Floats
    pruned: Floats
    dense: Floats


def _alike(cube: Cube) -> Iterator[_Alike]:
    """Group the optimizers of a cube, without the ratios that a pruner did not reach or an optimizer lacks."""
    has: NDArray[np.bool_] = np.logical_and(cube.known, cube.reached)
    complete = ~(np.isnan(cube.pruned) & has[:, None, :]).any(2) & ~np.isnan(cube.dense) & (has.sum(1) > 0)[:, None]
    kinds, kind = np.unique(np.column_stack([complete.sum(1), has]), axis=0, return_inverse=True)
    for number, (n, *_) in enumerate(kinds):
        which = np.flatnonzero(kind.ravel() == number)
        seeds, ratios = complete[which], has[which[0]]
        pruned = cube.pruned[which][seeds].reshape(len(which), n, len(ratios))[:, :, ratios]
        yield _Alike(which, cube.ratios[ratios], pruned, cube.dense[which][seeds].reshape(len(which), n))


def _summaries(place: tuple[Any, ...], cube: Cube, alike: _Alike) -> dict[str, Floats]:
    """`NUMBERS` of each optimizer."""
    rows, n, _ = alike.pruned.shape
    tested = np.flatnonzero(alike.ratios > 0) if (alike.ratios > 0).any() else np.arange(len(alike.ratios))
    found = {name: np.full(rows, np.nan) for name in NUMBERS}
    found |= {"n": np.full(rows, float(n)), "ratios": np.full(rows, float(len(tested)))}
    if len(alike.ratios):
        found["largest_ratio"] = np.full(rows, alike.ratios[-1])
    if n and len(tested):
        mean = summarize_accuracy(alike.pruned[:, :, tested].mean(2), np.full(rows, cube.images))
        found |= {"accuracy": mean.mean, "accuracy_std": mean.std, "accuracy_low": mean.low, "accuracy_high": mean.high}
        found |= _kept(place, alike)
    return found


def _kept(place: tuple[Any, ...], alike: _Alike) -> dict[str, Floats]:
    """Area under the retention curve, and the largest ratios that keep a given part of the dense accuracy."""
    ratios = alike.ratios
    start = 1.0 if place[3] in IS_BUDGET else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        retention = alike.pruned / alike.dense[:, :, None]
    if ratios[0] > start:
        ratios = np.r_[start, ratios]
        retention = np.concatenate([np.ones((*retention.shape[:2], 1)), retention], axis=2)
    if len(ratios) < 2:
        return {}
    area = summarize(area_under_curve(ratios, retention))
    keeps = {name: largest_keeping(ratios, retention.mean(1), level) for name, level in zip(_KEEPS, KEEPS, strict=True)}
    return {"area": area.mean, "area_low": area.low, "area_high": area.high, **keeps}


def area_under_curve(x: ArrayLike, y: ArrayLike) -> Floats:
    """Mean height of a piecewise linear curve between its first and last point; shape (..., points) to (...)."""
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return np.asarray((b[..., 1:] + b[..., :-1]) / 2 @ np.diff(a) / (a[-1] - a[0]))


def largest_keeping(x: ArrayLike, y: ArrayLike, level: float) -> Floats:
    """The largest x at which a piecewise linear curve is at or above a level.

    Args:
        x: increasing, shape (points,).
        y: shape (rows, points).
        level: the height.

    Returns:
        Shape (rows,): NaN where the whole curve is below, infinite where its last point is not.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    above = b >= level
    last = b.shape[1] - 1 - np.argmax(above[:, ::-1], axis=1)
    following = np.minimum(last + 1, b.shape[1] - 1)
    each = np.arange(len(b))
    here, there = b[each, last], b[each, following]
    fraction = np.divide(here - level, here - there, out=np.zeros(len(b)), where=here > there)
    found = a[last] + fraction * (a[following] - a[last])
    return np.where(~above.any(1), np.nan, np.where(above[:, -1], np.inf, found))
