"""Tables and sentences that only the page has: training, pairs of optimizers, figures in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sgabench.evidence.budgets import IS_BUDGET
from sgabench.evidence.comparison import DENSE, rows_of
from sgabench.evidence.leaderboard import Tables
from sgabench.evidence.ranks import Ranks
from sgabench.report.display import ratio, spread
from sgabench.report.series import HeatMap, Panel, pareto_front


def training_table(tables: Tables) -> pd.DataFrame:
    """What training took and gave, a row per data set, model and optimizer."""
    trials = tables.trials
    if trials.empty:
        return pd.DataFrame()
    rows = []
    for (dataset, model, optimizer), part in trials.groupby(["dataset", "model", "optimizer"], sort=False):
        done = part[part["status"] == "done"]
        numbers = {
            name: pd.to_numeric(done.get(name, pd.Series(dtype=float)))
            for name in ("top1", "train_passes", "train_seconds", "train_images_per_s")
        }
        unfinished = part[part["status"] != "done"]
        chance = done.loc[done["at_chance"].astype(bool), "seed"]
        notes = [
            f"{status} {', '.join(map(str, of['seed']))}" for status, of in unfinished.groupby("status", sort=False)
        ]
        notes += [f"at chance {', '.join(map(str, chance))}"] if len(chance) else []
        rows.append(
            {
                "data set": str(dataset),
                "model": str(model),
                tables.arm: str(optimizer),
                "n": str(len(done)),
                "dense %": spread(numbers["top1"].mean(), numbers["top1"].std()),
                "passes": _plain(numbers["train_passes"]),
                "seconds": _plain(numbers["train_seconds"]),
                "images/s": _plain(numbers["train_images_per_s"]),
                "seeds lacking": "; ".join(notes),
            }
        )
    return pd.DataFrame(rows)


def _plain(values: pd.Series[float]) -> str:
    """Mean ± standard deviation of numbers that are no fractions."""
    if not values.notna().any():
        return ""
    mean, std = values.mean(), values.std()
    return f"{mean:.0f}" if pd.isna(std) else f"{mean:.0f} ± {std:.0f}"


def comparison_table(compared: pd.DataFrame) -> pd.DataFrame:
    """Every comparison of optimizers, as text."""
    return pd.DataFrame([_comparison(row) for row in rows_of(compared)])


def _comparison(row: Mapping[Any, Any]) -> dict[str, str]:
    whole = row["ratio"] != row["ratio"]
    return {
        "data set": str(row["dataset"]),
        "model": str(row["model"]),
        "pruner": str(row["pruner"]),
        "ratio": "whole curve" if whole else "" if row["pruner"] == DENSE else ratio(row),
        "first": str(row["first"]),
        "second": str(row["second"]),
        "n": str(row["n_paired"]),
        "first - second, points": "" if pd.isna(row["difference"]) else f"{100 * row['difference']:+.1f}",
        "interval": _limits(row["difference_low"], row["difference_high"]),
        "its confidence": "" if pd.isna(row["level"]) else f"{100 * (1 - row['level']):.3g} %",
        "p": "" if pd.isna(row["p"]) else f"{row['p']:.2g}",
        "outcome": str(row["outcome"]),
    }


def _limits(low: float, high: float) -> str:
    """Limits in points with their signs; none is rounded to zero that is not."""
    texts = (f"{100 * x:+.1f}" if abs(x) >= 0.0005 or x == 0 else f"{100 * x:+.1g}" for x in (low, high))
    return "" if low != low else " to ".join(texts)


def comparison_counts(compared: pd.DataFrame) -> pd.DataFrame:
    """How often each optimizer of a pair is better, over all prunings: what stands for too many rows."""
    frame = compared.assign(whole=np.where(compared["ratio"].isna(), "whole curves", "single prunings"))
    grouped = frame.groupby(["whole", "first", "second"], sort=False)
    rows = []
    for (whole, first, second), part in grouped:
        counts = part["outcome"].value_counts()
        rows.append(
            {
                "of": str(whole),
                "first": str(first),
                "second": str(second),
                "comparisons": str(len(part)),
                **{name: str(counts.get(name, 0)) for name in ("better", "worse", "same", "undecided")},
                "mean difference, points": f"{100 * part['difference'].mean():+.1f}",
            }
        )
    return pd.DataFrame(rows)


def curves_in_words(panel: Panel) -> str:
    """The ends of the curves."""
    ends = [
        f"{curve.optimizer} {curve.mean[known][-1]:.1f} %"
        for curve in sorted(panel.lines, key=lambda c: -np.nan_to_num(c.mean[-1], nan=-1))
        if (known := ~np.isnan(curve.mean)).any()
    ]
    if not ends:
        return "Nothing was measured."
    last = max(float(curve.x["ratio"][-1]) for curve in panel.lines)
    place = f"{last:g}x {panel.of}" if panel.of in IS_BUDGET else f"{last:g} of {panel.of}"
    return f"Top-1 at {place}: {', '.join(ends)}."


def pareto_in_words(panel: Panel, cost: str) -> str:
    """The networks on the front."""
    costs = np.concatenate([cloud.cost for cloud in panel.lines])
    top1 = np.concatenate([cloud.top1 for cloud in panel.lines])
    names = [f"{cloud.optimizer} ({text})" for cloud in panel.lines for text in cloud.texts]
    front = pareto_front(costs, top1, more_is_better=cost == "images_per_s")
    unit = "images/s" if cost == "images_per_s" else "parameters"
    values = [f"{names[i]} {top1[i]:.1f} % at {costs[i]:,.0f} {unit}" for i in front[:6]]
    more = f", and {len(front) - 6} more" if len(front) > 6 else ""
    return f"On the front: {'; '.join(values)}{more}."


def weights_in_words(panel: Panel) -> str:
    """Where half of the weights are."""
    values = []
    for line in panel.lines:
        total = np.cumsum(line.y)
        if total[-1] > 0:
            middle = line.x[int(np.searchsorted(total, total[-1] / 2))]
            values.append(f"{line.optimizer} {10**middle:.2g}")
    return f"Median of |w| of the non-zero weights, to the width of a bin: {', '.join(values)}."


def training_in_words(panel: Panel, measure: str) -> str:
    """The last epoch."""
    unit = "" if measure == "loss" else " %"
    values = [f"{line.optimizer} {line.y[-1]:.3g}{unit} after {line.x[-1]:g} epochs" for line in panel.lines]
    return f"At the end: {', '.join(values)}."


def layers_in_words(chart: HeatMap) -> str:
    """The layers that lose most and least."""
    means = np.nanmean(chart.percent, axis=1)
    pruned = [i for i in np.argsort(means) if means[i] > 0]
    if not pruned:
        return "No layer has zeros."
    least, most = pruned[0], pruned[-1]
    return (
        f"Over all columns, {chart.layers[most]} loses most ({means[most]:.0f} % zeros) and {chart.layers[least]}, of "
        f"those that lose any, least ({means[least]:.0f} %)."
    )


def ranks_in_words(ranks: Ranks, arm: str) -> str:
    """Mean ranks and what they show; also why there is no diagram."""
    if not len(ranks.table):
        return f"There are no ranks: no {arm} has whole curves for every data set and model."
    listed = ", ".join(f"{row['optimizer']} {row['rank']:.2f}" for row in ranks.table.to_dict("records"))
    blocks = f"{ranks.blocks} block{'s' if ranks.blocks != 1 else ''} (data set, model)"
    left_out = f" Left out, because a block is missing: {', '.join(ranks.left_out)}." if ranks.left_out else ""
    if np.isnan(ranks.critical_difference):
        why = "two blocks" if ranks.blocks < 2 else f"two {arm}s"
        return f"Mean ranks over {blocks}: {listed}. No critical difference: at least {why} are needed.{left_out}"
    few = " So few blocks can hardly show a difference." if ranks.blocks < 5 else ""
    return (
        f"Mean ranks over {blocks}: {listed}. Ranks that differ by less than {ranks.critical_difference:.2f} are not "
        f"distinguished (Friedman p = {ranks.p:.2g}).{few}{left_out}"
    )


def area_summary(tables: Tables) -> tuple[list[str], list[str], Any]:
    """Panels, optimizers, and the area under each retention curve in percent."""
    curves = tables.curves
    named = curves.assign(
        panel=[f"{d}, {m}: {p}" for d, m, p in zip(curves["dataset"], curves["model"], curves["pruner"], strict=True)]
    )
    table = named.pivot_table(index="panel", columns="optimizer", values="area", sort=False)
    return list(map(str, table.index)), list(map(str, table.columns)), 100 * table.to_numpy(dtype=float)
