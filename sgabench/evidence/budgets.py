"""Cells at ratios of a pruner to cells at equal achieved budgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sgabench.evidence.frames import COSTS
from sgabench.evidence.intervals import Floats

BUDGETS = {"compression": "compression_ratio", "macs": "theoretical_speedup"}
BUDGET_UNITS = {"compression": "compression", "macs": "theoretical speedup"}  # what ``of`` is at equal budgets
OF_TRIAL = (
    *("dataset", "model", "optimizer", "seed", "pruner", "group", "device"),
    *("dense_top1", "dense_loss", "counted_dense", "trained", "chance", "test_images", "trial_seconds"),
    *COSTS,
)
IS_BUDGET = frozenset(BUDGET_UNITS.values())
LEVELS = tuple(base * 2.0**power for power in range(12) for base in (1.0, 1.25, 1.5))[1:]


def at_budget(cells: pd.DataFrame, by: str) -> pd.DataFrame:
    """The cells as if every network had been pruned to equal achieved budgets.

    Along each trial's curve over the ratios of a pruner, which starts at the dense network, every number is
    interpolated linearly in the logarithm of what was achieved, at 1.25x, 1.5x, 2x, 2.5x, 3x, 4x, ... as far as the
    curves of all optimizers and seeds reach.

    Args:
        cells: as in `Tables`.
        by: ``compression`` (parameters / non-zero parameters) or ``macs`` (multiply-adds / those on non-zero
            weights).

    Returns:
        Cells with ``ratio`` the budget and ``of`` ``compression`` or ``theoretical speedup``; a trial with a cell
        that is not done has that cell's status at every budget. Numbers that are unknown for the dense network are
        NaN below the first cell.
    """
    if cells.empty:
        return cells
    achieved = BUDGETS[by]
    rows: list[dict[str, Any]] = []
    for _, of_pruner in cells.groupby(["dataset", "model", "pruner", "of"], sort=False):
        known = of_pruner[(of_pruner["status"] == "done") & of_pruner.get(achieved, pd.Series(dtype=float)).notna()]
        if known.empty:
            continue
        reach = known.groupby(["optimizer", "seed"])[achieved].max().min()
        levels = np.array([level for level in LEVELS if level <= reach * (1 + 1e-9)])
        for _, trial in of_pruner.groupby(["optimizer", "seed"], sort=False):
            rows.extend(_trial_at_levels(trial, achieved, levels, by))
    return pd.DataFrame(rows, columns=list(cells.columns)).assign(interpolated=True)


def _trial_at_levels(trial: pd.DataFrame, achieved: str, levels: Floats, by: str) -> list[dict[str, Any]]:
    first = trial.iloc[0].to_dict()
    identity = {name: first[name] for name in OF_TRIAL}
    identity |= {
        "of": BUDGET_UNITS[by],
        "key": "",
    }
    lacking = trial[(trial["status"] != "done") | trial[achieved].isna()]
    if len(lacking):
        status = next((s for s in lacking["status"] if s != "done"), "missing")
        counted = first["chance"] if status == "diverged" else float("nan")
        identity |= {"status": status, "counted_top1": counted}
        return [{**identity, "ratio": float(level)} for level in levels]
    ordered = trial.sort_values(achieved).drop_duplicates(achieved)
    x = np.log(np.maximum(ordered[achieved].to_numpy(dtype=float), 1.0))
    numbers: dict[str, Floats] = {}
    for name in ordered.columns:
        if name == achieved:
            numbers[name] = levels
        if (
            name == achieved
            or name in identity
            or not pd.api.types.is_numeric_dtype(ordered[name])
            or name in ("ratio", "seed", "threads")
        ):
            continue
        y = ordered[name].to_numpy(dtype=float)
        known = ~np.isnan(y)
        start = _of_dense(name, first)
        if start is not None:
            numbers[name] = np.interp(np.log(levels), np.r_[0.0, x[known]], np.r_[start, y[known]])
        elif known.any():  # unknown for the dense network, and so below the first cell
            numbers[name] = np.interp(np.log(levels), x[known], y[known], left=np.nan)
    for remaining, ratio in (("nonzero_params", "compression_ratio"), ("nonzero_macs", "theoretical_speedup")):
        if remaining in ordered and ratio in numbers:
            of_dense = (ordered[remaining] * ordered[ratio]).mean()  # the dense network's: the same in every cell
            numbers[remaining] = of_dense / numbers[ratio]
    return [
        {**identity, "ratio": float(level), "status": "done", **{name: float(y[i]) for name, y in numbers.items()}}
        for i, level in enumerate(levels)
    ]


def _of_dense(name: str, cell: dict[Any, Any]) -> float | None:
    """A number at the dense start of its curve, where it is known without a measurement."""
    dense = {
        "pruned_top1": "dense_top1",
        "counted_top1": "counted_dense",
        "pruned_loss": "dense_loss",
        "images_per_s": "dense_images_per_s",
    }
    if name in dense:
        value = cell.get(dense[name])
        return None if value is None or pd.isna(value) else float(value)
    if name in ("retention", "compression_ratio", "theoretical_speedup", "measured_speedup", "latency_speedup"):
        return 1.0
    return 0.0 if name == "sparsity" else None
