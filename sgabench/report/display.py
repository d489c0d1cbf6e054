"""Numbers as a reader sees them; the same words in every format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sgabench.comparison import IS_BUDGET, KEEPS, half_width
from sgabench.leaderboard import Tables

HEADINGS = {
    "pruner": "pruner",
    "ratio": "ratio",
    "optimizer": "optimizer",
    "n": "n",
    "dense": "dense %",
    "pruned": "pruned %",
    "retention": "retention %",
    "interval": "95 % interval",
    "best": "best",
    "verdict": "verdict",
    "sparsity": "sparsity %",
    "compression": "compression",
    "theoretical": "theory",
    "measured": "measured",
    "incomplete": "seeds lacking",
}
LEFT = {"data set", "model", "pruner", "ratio", "optimizer", "best", "verdict", "seeds lacking"}
OPTIONAL = ("measured", "interval", "best", "verdict", "incomplete")
NOTE = (
    "Dense, pruned: top-1 on the test split, mean ± standard deviation over n seeds. Retention: pruned / dense top-1 "
    "of the same trial. Interval: 95 % for the mean of pruned top-1. Best: the highest pruned top-1, and all that is "
    "not shown to be worse than another. Verdict: difference in pruned top-1, paired by seed, ± half its 95 % "
    "interval; p corrected by Holm for all pairs of optimizers and all prunings of the data set and model. Sparsity: "
    "zeros among the prunable weights. Compression: parameters / non-zero parameters. Theory: speedup by "
    "multiply-adds, all / those on non-zero weights. Measured: speedup of inference, time of the dense network / of "
    "the pruned one."
)
CURVE_NOTE = (
    "Area: mean retention from the dense network to the largest ratio, with its 95 % interval. Keeps: the largest "
    "ratio at which the mean retention is at least so much, linear between the ratios that were measured."
)


def sections(tables: Tables) -> dict[str, pd.DataFrame]:
    """The leaderboard as text, a table per data set and model.

    Returns:
        Title to table; a table's columns are headings, and those that say nothing are left out.
    """
    board = tables.leaderboard
    parts = {}
    for (dataset, model), part in board.groupby(["dataset", "model"], sort=False):
        shown = pd.DataFrame([_row(row) for row in part.astype(object).to_dict("records")], dtype=object)
        empty = [name for name in OPTIONAL if not (shown[name] != "").any()]
        shown = shown.drop(columns=empty)
        parts[f"{dataset}, {model}"] = shown.rename(columns=HEADINGS)
    return parts


def _row(row: Mapping[Any, Any]) -> dict[str, str]:
    return {
        "pruner": str(row["pruner"]),
        "ratio": ratio(row),
        "optimizer": str(row["optimizer"]),
        "n": str(row["n"]),
        "dense": spread(row["dense_top1_mean"], row["dense_top1_std"]),
        "pruned": spread(row["pruned_top1_mean"], row["pruned_top1_std"]),
        "retention": spread(row["retention_mean"], row["retention_std"]),
        "interval": interval(row["pruned_top1_low"], row["pruned_top1_high"]),
        "best": "*" if row["best"] else "",
        "verdict": str(row["verdict"]),
        "sparsity": percent(row["sparsity"]),
        "compression": times(row["compression_ratio"]),
        "theoretical": times(row["theoretical_speedup"]),
        "measured": times(row["measured_speedup"]),
        "incomplete": str(row["incomplete"]),
    }


def ratio(row: Mapping[Any, Any]) -> str:
    """What was asked for, ``0.5 of weights``, or an achieved budget, ``2x compression``."""
    return f"{row['ratio']:g}x {row['of']}" if row["of"] in IS_BUDGET else f"{row['ratio']:g} of {row['of']}"


def answers(tables: Tables) -> list[str]:
    """The verdicts of each data set and model in a sentence."""
    board = tables.leaderboard
    lines = []
    for (dataset, model), part in board.groupby(["dataset", "model"], sort=False):
        told = part[part["outcome"].isin(["better", "worse", "same", "few"])]
        sentences = [_answer(str(name), rows) for name, rows in told.groupby("optimizer", sort=False)]
        if sentences:
            lines.append(f"{dataset}, {model}: compared with {tables.reference}, {'; '.join(sentences)}.")
        elif tables.reference and part["optimizer"].nunique() > 1:
            lines.append(f"{dataset}, {model}: no verdict; it takes at least two seeds of each optimizer.")
    return lines


def _answer(optimizer: str, rows: pd.DataFrame) -> str:
    seeds = rows["n_paired"]
    n = f"n = {seeds.min()}" if seeds.min() == seeds.max() else f"n = {seeds.min()} to {seeds.max()}"
    counts = rows["outcome"].value_counts()
    parts = []
    for outcome in ("better", "worse"):
        if counts.get(outcome, 0):
            of_these = rows[rows["outcome"] == outcome]
            most = of_these.iloc[int(of_these["difference"].abs().argmax())].to_dict()
            by = f"by up to {abs(100 * most['difference']):.1f} ± {half_width(most):.1f} points"
            parts.append(f"{outcome} at {counts[outcome]} ({by}: {most['pruner']}, {ratio(most)})")
    if counts.get("same", 0):
        parts.append(f"not shown to differ at {counts['same']}")
    if counts.get("few", 0):
        parts.append(f"undecided for want of seeds at {counts['few']}")
    return f"{optimizer} ({len(rows)} prunings, {n}) is {', '.join(parts)}"


def curve_table(tables: Tables) -> pd.DataFrame:
    """The summaries of the retention curves, as text."""
    rows = []
    for row in tables.curves.to_dict("records"):
        of = row["of"]
        place = "{:.2f}x".format if of in IS_BUDGET else "{:.2f}".format
        kept = {f"keeps {round(100 * level)} %": _kept(row, f"keeps_{round(100 * level)}", place) for level in KEEPS}
        rows.append(
            {
                "data set": str(row["dataset"]),
                "model": str(row["model"]),
                "pruner": f"{row['pruner']}, of {of}" if of not in IS_BUDGET else f"{row['pruner']}, {of}",
                "optimizer": str(row["optimizer"]),
                "n": str(row["n"]),
                "area %": percent(row["area"]),
                "interval": interval(row["area_low"], row["area_high"]),
                **kept,
            }
        )
    return pd.DataFrame(rows)


def _kept(row: Mapping[Any, Any], name: str, place: Any) -> str:
    value = row[name]
    if pd.isna(value):
        return ""
    return f"beyond {row['largest_ratio']:g}" if value == float("inf") else str(place(value))


def interval(low: float, high: float) -> str:
    """``68.1 to 77.6`` in percent; empty if there is none."""
    return "" if pd.isna(low) else f"{percent(low)} to {percent(high)}"


def percent(value: float) -> str:
    """A fraction in percent, one decimal; empty if there is none."""
    return "" if pd.isna(value) else f"{100 * value:.1f}"


def spread(mean: float, std: float) -> str:
    """``51.8 ± 3.1`` in percent; the mean alone where one seed gives no spread."""
    return percent(mean) if pd.isna(std) else f"{percent(mean)} ± {100 * std:.1f}"


def times(value: float) -> str:
    """A ratio: ``2.00x``."""
    return "" if pd.isna(value) else f"{value:.2f}x"


def failure_lines(tables: Tables, limit: int = 20) -> list[str]:
    """A line per failure: what, and the last line of its error; and a line per network that only guesses."""
    rows = tables.failures.to_dict("records")
    lines = [
        f"{row['status']}: {row['kind']} {row['name']}: {(str(row['error']).strip().splitlines() or ['?'])[-1]}"
        for row in rows[:limit]
    ]
    lines += [f"... and {len(rows) - limit} more"] if len(rows) > limit else []
    trials = tables.trials
    guessing = trials[trials["at_chance"]].to_dict("records") if "at_chance" in trials else []
    return lines + [
        f"at chance: trial {row['dataset']}/{row['model']}/{row['optimizer']}/{row['seed']}: dense top-1 "
        f"{percent(row['top1'])} %, no better than guessing among {row['classes']:g} classes; it counts in the means"
        for row in guessing[:limit]
    ]


def environment_lines(tables: Tables) -> list[str]:
    """A line per environment that the trials were run in."""
    lines = [f"{environment_line(environment)} a trial" for environment in tables.environments]
    return list(dict.fromkeys(lines))


def environment_line(environment: Mapping[str, Any]) -> str:
    """Versions, device and cores of an environment, in one line."""
    packages = environment["packages"]
    versions = ", ".join(
        f"{name} {packages[name]}" for name in ("sgabench", "torch", "torchvision") if name in packages
    )
    device = environment.get("gpu") or environment["cpu"]
    threads = f"{environment['threads']} of {environment['cores']} cores"
    return f"{versions}, Python {environment['python']}; {environment['device']}: {device}, {threads}"
