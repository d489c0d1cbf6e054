"""Two results folders side by side, as text."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgabench.evidence.comparison import DENSE
from sgabench.evidence.leaderboard import Tables
from sgabench.report.display import LEFT, environment_lines, percent, ratio, without_limits
from sgabench.report.markdown import escape, pipe_table
from sgabench.report.numbers import csv, records
from sgabench.report.terminal import NARROW, WIDE

NOTE = (
    "Top-1 on the test split, means over the n seeds that both have; dense and pruned. Verdicts have "
    "simultaneous 95 % intervals: whole curves first, single ratios inside those that are decided."
)


def render_comparison(
    rows: pd.DataFrame, names: tuple[str, str], tables: tuple[Tables, Tables], form: str, *, changed: bool = False
) -> str:
    """Write the rows of `sgabench.evidence.folders.side_by_side` in a format: table, markdown, csv or json.

    Args:
        rows: the comparison.
        names: of the two folders.
        tables: of the two folders, for their environments.
        form: the format.
        changed: only rows with a difference that is shown, or that one side lacks.
    """
    verdict = summary(rows, names)
    if changed:
        rows = rows[rows["outcome"].isin(["better", "worse"]) | rows["verdict"].str.startswith("only in")]
    forms: dict[str, Callable[[], str]] = {
        "table": lambda: _table(rows, verdict, names, tables),
        "markdown": lambda: _markdown(rows, verdict, names, tables),
        "csv": lambda: csv(rows),
        "json": lambda: _json(rows, names, tables),
    }
    return forms[form]()


def summary(rows: pd.DataFrame, names: tuple[str, str]) -> str:
    """A summary of the rows in one sentence."""
    counts = rows["outcome"].value_counts() if len(rows) else pd.Series(dtype=int)
    words = {
        "better": "better",
        "worse": "worse",
        "same": "the same",
        "undecided": "undecided",
        "fewer": "undecided, with fewer seeds on one side",
        "few": "with too few seeds for a verdict",
        "none": "not comparable",
    }
    parts = [f"{counts[outcome]} {text}" for outcome, text in words.items() if counts.get(outcome, 0)]
    return f"{names[1]} compared with {names[0]}: {', '.join(parts) or 'nothing to compare'}."


def _shown(rows: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "data set": str(row["dataset"]),
                "model": str(row["model"]),
                "optimizer": str(row["optimizer"]),
                "pruner": str(row["pruner"]),
                "ratio": _place(row),
                "n": str(row["n_paired"]),
                f"{names[0]} %": percent(row["first_mean"]),
                f"{names[1]} %": percent(row["second_mean"]),
                "difference": "" if pd.isna(row["difference"]) else f"{100 * row['difference']:+.1f}",
                "verdict": str(row["verdict"]),
            }
            for row in rows.to_dict("records")
        ]
    )


def _place(row: Mapping[Any, Any]) -> str:
    if row["pruner"] == DENSE:
        return ""
    return "whole curve" if row["ratio"] != row["ratio"] else ratio(row)


def _table(rows: pd.DataFrame, verdict: str, names: tuple[str, str], tables: tuple[Tables, Tables]) -> str:
    width = max(80, shutil.get_terminal_size((WIDE, 24)).columns)
    console = Console(file=io.StringIO(), width=width)
    view = Table(box=None, padding=(0, 2, 0, 0))
    shown = _shown(rows, names)
    if len(rows[["dataset", "model"]].drop_duplicates()) == 1:
        view.title, view.title_justify = Text(f"{rows['dataset'].iloc[0]}, {rows['model'].iloc[0]}"), "left"
        shown = shown.drop(columns=["data set", "model"])
    if width < NARROW and len(shown):
        shown["verdict"] = list(map(without_limits, shown["verdict"]))
    for name in shown.columns:
        justify: Literal["left", "right"] = "left" if name in LEFT else "right"
        view.add_column(Text(name), header_style="bold underline", justify=justify, overflow="fold")
    for values in shown.itertuples(index=False, name=None):
        view.add_row(*(Text(value) for value in values))
    if len(shown):
        console.print(view)
    console.print(Text(verdict, style="bold"), Text(NOTE, style="dim"), sep="\n")
    console.print(*(Text(line) for line in _environments(names, tables)), sep="\n")
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _markdown(rows: pd.DataFrame, verdict: str, names: tuple[str, str], tables: tuple[Tables, Tables]) -> str:
    shown = _shown(rows, names)
    lines = [f"# {escape(names[1])} compared with {escape(names[0])}", "", escape(verdict), ""]
    lines += [*pipe_table(shown), "", NOTE, ""] if len(shown) else []
    lines += [f"- {escape(line)}" for line in _environments(names, tables)]
    return "\n".join(lines) + "\n"


def _json(rows: pd.DataFrame, names: tuple[str, str], tables: tuple[Tables, Tables]) -> str:
    import json

    environments = {name: list(of_side.environments) for name, of_side in zip(names, tables, strict=True)}
    content = {"first": names[0], "second": names[1], "rows": records(rows), "environments": environments}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _environments(names: tuple[str, str], tables: tuple[Tables, Tables]) -> list[str]:
    return [f"{name}: {line}" for name, side in zip(names, tables, strict=True) for line in environment_lines(side)]
