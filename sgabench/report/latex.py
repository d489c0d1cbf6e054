"""The leaderboard as LaTeX tables, for the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from sgabench.evidence.leaderboard import Tables
from sgabench.report.display import ARMS, HEADINGS, LEFT, in_short, sections, warnings
from sgabench.suite.resolving import Suite

SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    }
)
HEADER = (
    "% Needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs}. Bold: not shown to be worse than any other,\n% "
    "and above all that are. Verdicts are against the reference, in points of pruned top-1.\n% The other "
    "formats have retention, sparsity and speed, too."
)
# Columns that fit on a page; a block's pruner and ratio are above it.
COLUMNS = ARMS + tuple(
    HEADINGS[name]
    for name in (
        *("n", "trained", "dense", "pruned", "interval", "verdict", "compression", "theoretical"),
        "passes",
    )
)


def latex(tables: Tables, suite: Suite | None = None) -> str:
    """A table per data set and model; rows not shown to be worse than another are bold."""
    lines = [HEADER, f"% Leaderboard of {' '.join(suite.name.split())}" if suite else "% Leaderboard"]
    for warning in warnings(tables):
        lines += ["", rf"\par\noindent\textbf{{{escape(warning)}}}\par"]
    for title, frame in sections(tables).items():
        lines += ["", *_table(title, frame)]
    return "\n".join(lines) + "\n"


def _table(title: str, frame: pd.DataFrame) -> Iterator[str]:
    shown = [name for name in COLUMNS if name in frame]
    yield r"\begin{table}"
    yield rf"\caption{{{escape(title)}}}"
    yield r"\centering"
    yield rf"\begin{{tabular}}{{{''.join('l' if name in LEFT else 'r' for name in shown)}}}"
    yield r"\toprule"
    yield " & ".join(escape(name) for name in shown) + r" \\"
    incomplete, trained = [], {}
    for (pruner, ratio), block in frame.groupby(["pruner", "ratio"], sort=False):
        yield r"\midrule"
        yield rf"\multicolumn{{{len(shown)}}}{{l}}{{{escape(f'{pruner}, {ratio}')}}} \\"
        for row in block.to_dict("records"):
            # A row beginning with [ or * would be read as an argument of the previous command.
            yield "{}" + " & ".join(_cell(name, row) for name in shown) + r" \\"
            if row.get(HEADINGS["incomplete"]):
                incomplete.append(f"{pruner}, {ratio}, {row[shown[0]]}: {row[HEADINGS['incomplete']]}")
            if row.get(HEADINGS["trained"]):
                trained[row[shown[0]]] = row[HEADINGS["trained"]]
    yield r"\bottomrule"
    yield r"\end{tabular}"
    if trained:
        shares = "; ".join(f"{name} {share}" for name, share in trained.items())
        yield rf"\par\footnotesize Trained: {escape(shares)}."
    if incomplete:
        yield rf"\par\footnotesize Seeds lacking: {escape('; '.join(incomplete))}."
    yield r"\end{table}"


def _cell(name: str, row: Mapping[Hashable, Any]) -> str:
    text = str(row[name])
    if name == "verdict":
        return escape(in_short(text))  # sentences do not fit into a column
    if name == "trained":
        return escape(text.split(" (")[0])
    shown = escape(text) if name in LEFT else number(text)
    return rf"\textbf{{{shown}}}" if name == HEADINGS["pruned"] and row.get("leads") else shown


def escape(text: str) -> str:
    """Escape text for LaTeX, on one line."""
    return " ".join(text.split()).translate(SPECIAL)


def number(text: str) -> str:
    """A cell of numbers, with a proper minus."""
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", escape(text))
