"""Numbers as a reader sees them; the same words in every format."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from sgabench.evidence.budgets import IS_BUDGET
from sgabench.evidence.comparison import half_width, rows_of
from sgabench.evidence.curves import KEEPS
from sgabench.evidence.leaderboard import Tables

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
OUTCOMES = ("better", "worse", "same", "few")  # of which something can be told
OPTIONAL = ("measured", "interval", "best", "verdict", "incomplete")
_EXPLAINED = {
    ("dense", "pruned"): "Dense, pruned: top-1 on the test split, mean ± standard deviation over n seeds.",
    ("retention",): "Retention: pruned / dense top-1 of the same trial.",
    ("interval",): "Interval: 95 % for the mean of pruned top-1.",
    ("best",): "Best: the highest pruned top-1, and all that is not shown to be worse than another.",
    (
        "verdict",
    ): "Verdict: difference in pruned top-1, paired by seed, ± half its 95 % interval; p corrected by Holm for "
    "all pairs of optimizers and all prunings of the data set and model.",
    ("sparsity",): "Sparsity: zeros among the prunable weights.",
    ("compression",): "Compression: parameters / non-zero parameters.",
    ("theoretical",): "Theory: speedup by multiply-adds, all / those on non-zero weights.",
    ("measured",): "Measured: speedup of inference, time of the dense network / of the pruned one.",
}
CURVE_NOTE = (
    "Area: mean retention from the dense network to the largest ratio, with its 95 % interval. Keeps: the largest "
    "ratio at which the mean retention is at least so much, linear between the ratios that were measured."
)


def note(shown: Collection[str] | None = None) -> str:
    """What columns of the leaderboard mean.

    Args:
        shown: their headings; None: all.
    """
    wanted = HEADINGS.values() if shown is None else shown
    return " ".join(text for names, text in _EXPLAINED.items() if any(HEADINGS[name] in wanted for name in names))


def sections(tables: Tables) -> dict[str, pd.DataFrame]:
    """The leaderboard as text, a table per data set and model.

    Returns:
        Title to table; a table's columns are headings, and those that say nothing are left out.
    """
    board = tables.leaderboard
    texts = pd.DataFrame(_texts(board), dtype=object)
    parts = {}
    of_model: dict[Any, Any] = dict(board.groupby(["dataset", "model"], sort=False).indices)
    for (dataset, model), rows in of_model.items():
        shown = texts.iloc[rows].reset_index(drop=True)
        empty = [name for name in OPTIONAL if not (shown[name] != "").any()]
        parts[f"{dataset}, {model}"] = shown.drop(columns=empty).rename(columns=HEADINGS)
    return parts


def _texts(board: pd.DataFrame) -> dict[str, list[str]]:
    column = {str(name): board[name].tolist() for name in board}
    return {
        "pruner": list(map(str, column["pruner"])),
        "ratio": [ratio(row) for row in rows_of(board[["ratio", "of"]])],
        "optimizer": list(map(str, column["optimizer"])),
        "n": list(map(str, column["n"])),
        "dense": list(map(spread, column["dense_top1_mean"], column["dense_top1_std"])),
        "pruned": list(map(spread, column["pruned_top1_mean"], column["pruned_top1_std"])),
        "retention": list(map(spread, column["retention_mean"], column["retention_std"])),
        "interval": list(map(interval, column["pruned_top1_low"], column["pruned_top1_high"])),
        "best": ["*" if best else "" for best in column["best"]],
        "verdict": list(map(str, column["verdict"])),
        "sparsity": list(map(percent, column["sparsity"])),
        "compression": list(map(times, column["compression_ratio"])),
        "theoretical": list(map(times, column["theoretical_speedup"])),
        "measured": list(map(times, column["measured_speedup"])),
        "incomplete": list(map(str, column["incomplete"])),
    }


def ratio(row: Mapping[Any, Any]) -> str:
    """What was asked for, ``0.5 of weights``, or an achieved budget, ``2x compression``."""
    return f"{row['ratio']:g}x {row['of']}" if row["of"] in IS_BUDGET else f"{row['ratio']:g} of {row['of']}"


def answers(tables: Tables) -> list[str]:
    """The verdicts of each data set and model in a sentence."""
    board = tables.leaderboard
    names: dict[tuple[str, str], set[str]] = {}
    told: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    columns = ["dataset", "model", "optimizer", "pruner", "of", "ratio", "outcome", "n_paired"]
    for row in rows_of(board[[*columns, "difference", "difference_low", "difference_high"]]):
        place = row["dataset"], row["model"]
        names.setdefault(place, set()).add(row["optimizer"])
        if row["outcome"] in OUTCOMES:
            told.setdefault(place, {}).setdefault(row["optimizer"], []).append(row)
    lines = []
    for (dataset, model), optimizers in names.items():
        sentences = [_answer(name, rows) for name, rows in told.get((dataset, model), {}).items()]
        if sentences:
            lines.append(f"{dataset}, {model}: compared with {tables.reference}, {'; '.join(sentences)}.")
        elif tables.reference and len(optimizers) > 1:
            lines.append(f"{dataset}, {model}: no verdict; it takes at least two seeds of each optimizer.")
    return lines


def _answer(optimizer: str, rows: list[dict[str, Any]]) -> str:
    seeds = [row["n_paired"] for row in rows]
    n = f"n = {min(seeds)}" if min(seeds) == max(seeds) else f"n = {min(seeds)} to {max(seeds)}"
    by_outcome = {outcome: [row for row in rows if row["outcome"] == outcome] for outcome in OUTCOMES}
    parts = []
    for outcome in ("better", "worse"):
        if of_these := by_outcome[outcome]:
            most = max(of_these, key=lambda row: abs(row["difference"]))
            by = f"by up to {abs(100 * most['difference']):.1f} ± {half_width(most):.1f} points"
            parts.append(f"{outcome} at {len(of_these)} ({by}: {most['pruner']}, {ratio(most)})")
    if same := by_outcome["same"]:
        parts.append(f"not shown to differ at {len(same)}")
    if few := by_outcome["few"]:
        parts.append(f"undecided for want of seeds at {len(few)}")
    return f"{optimizer} ({len(rows)} prunings, {n}) is {', '.join(parts)}"


def curve_table(tables: Tables) -> pd.DataFrame:
    """The summaries of the retention curves, as text."""
    rows = []
    for row in rows_of(tables.curves):
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
    if _is_unknown(value):
        return ""
    return f"beyond {row['largest_ratio']:g}" if value == float("inf") else str(place(value))


def _is_unknown(value: float | None) -> bool:
    return value is None or value != value


def interval(low: float, high: float) -> str:
    """``68.1 to 77.6`` in percent; empty if there is none."""
    return "" if _is_unknown(low) else f"{percent(low)} to {percent(high)}"


def percent(value: float) -> str:
    """A fraction in percent, one decimal; empty if there is none."""
    return "" if value is None or value != value else f"{100 * value:.1f}"


def spread(mean: float, std: float) -> str:
    """``51.8 ± 3.1`` in percent; the mean alone where one seed gives no spread."""
    return percent(mean) if _is_unknown(std) else f"{percent(mean)} ± {100 * std:.1f}"


def times(value: float) -> str:
    """A ratio: ``2.00x``."""
    return "" if value is None or value != value else f"{value:.2f}x"


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
