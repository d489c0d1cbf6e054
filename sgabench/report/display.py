"""Numbers as a reader sees them; the same words in every format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sgabench.leaderboard import Tables

HEADINGS = {
    "pruner": "pruner",
    "ratio": "ratio",
    "optimizer": "optimizer",
    "n": "n",
    "dense": "dense %",
    "pruned": "pruned %",
    "retention": "retention %",
    "sparsity": "sparsity %",
    "compression": "compression",
    "theoretical": "theory",
    "measured": "measured",
    "incomplete": "seeds lacking",
}
LEFT = {"pruner", "ratio", "optimizer", "seeds lacking"}
NOTE = (
    "Dense, pruned: top-1 on the test split, mean ± standard deviation over n seeds. Retention: pruned / dense top-1 "
    "of the same trial. Sparsity: zeros among the prunable weights. Compression: parameters / non-zero parameters. "
    "Theory: speedup by multiply-adds, all / those on non-zero weights. Measured: speedup of inference, time of the "
    "dense network / of the pruned one. Best pruned top-1 first; the order alone says nothing about significance."
)


def sections(tables: Tables) -> dict[str, pd.DataFrame]:
    """The leaderboard as text, a table per data set and model.

    Returns:
        Title to table; a table's columns are headings, and those that say nothing are left out.
    """
    board = tables.leaderboard
    parts = {}
    for (dataset, model), part in board.groupby(["dataset", "model"], sort=False):
        shown = pd.DataFrame([_row(row) for row in part.to_dict("records")])
        if not (shown["incomplete"] != "").any():
            shown = shown.drop(columns="incomplete")
        if not (shown["measured"] != "").any():
            shown = shown.drop(columns="measured")
        parts[f"{dataset}, {model}"] = shown.rename(columns=HEADINGS)
    return parts


def _row(row: Mapping[Any, Any]) -> dict[str, str]:
    return {
        "pruner": str(row["pruner"]),
        "ratio": f"{row['ratio']:g} of {row['of']}",
        "optimizer": str(row["optimizer"]),
        "n": str(row["n"]),
        "dense": spread(row["dense_top1_mean"], row["dense_top1_std"]),
        "pruned": spread(row["pruned_top1_mean"], row["pruned_top1_std"]),
        "retention": spread(row["retention_mean"], row["retention_std"]),
        "sparsity": percent(row["sparsity"]),
        "compression": times(row["compression_ratio"]),
        "theoretical": times(row["theoretical_speedup"]),
        "measured": times(row["measured_speedup"]),
        "incomplete": str(row["incomplete"]),
    }


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
    """A line per failure: what, and the last line of its error."""
    rows = tables.failures.to_dict("records")
    lines = [
        f"{row['status']}: {row['kind']} {row['name']}: {(str(row['error']).strip().splitlines() or ['?'])[-1]}"
        for row in rows[:limit]
    ]
    return lines + ([f"... and {len(rows) - limit} more"] if len(rows) > limit else [])


def environment_lines(tables: Tables) -> list[str]:
    """A line per environment that the trials were run in."""
    lines = []
    for environment in tables.environments:
        packages = environment["packages"]
        versions = ", ".join(
            f"{name} {packages[name]}" for name in ("sgabench", "torch", "torchvision") if name in packages
        )
        device = environment.get("gpu") or environment["cpu"]
        threads = f"{environment['threads']} of {environment['cores']} cores a trial"
        lines.append(f"{versions}, Python {environment['python']}; {environment['device']}: {device}, {threads}")
    return lines
