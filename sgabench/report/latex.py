"""The leaderboard as LaTeX tables, for the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from sgabench.evidence.leaderboard import Tables
from sgabench.report.display import HEADINGS, LEFT, in_short, sections, warnings
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
    "% Needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs}. Bold: not shown to be worse than another,\n% "
    "where that leaves somebody out. Verdicts are against the reference, in points of pruned top-1."
)


def latex(tables: Tables, suite: Suite | None = None) -> str:
    """A table per data set and model; what is not shown to be worse than another is bold."""
    lines = [HEADER, f"% Leaderboard of {' '.join(suite.name.split())}" if suite else "% Leaderboard"]
    for warning in warnings(tables):
        lines += ["", rf"\par\noindent\textbf{{{escape(warning)}}}\par"]
    for title, frame in sections(tables).items():
        lines += ["", *_table(title, frame)]
    return "\n".join(lines) + "\n"


def _table(title: str, frame: pd.DataFrame) -> Iterator[str]:
    best = list(frame["leads"]) if "leads" in frame else [""] * len(frame)
    shown = frame.drop(columns="leads", errors="ignore")
    if "verdict" in shown:
        shown["verdict"] = list(map(in_short, shown["verdict"]))  # sentences do not fit into a column
    yield r"\begin{table}"
    yield rf"\caption{{{escape(title)}}}"
    yield r"\centering"
    yield rf"\begin{{tabular}}{{{''.join('l' if name in LEFT else 'r' for name in shown.columns)}}}"
    yield r"\toprule"
    yield " & ".join(escape(str(name)) for name in shown.columns) + r" \\"
    yield r"\midrule"
    pruned = list(shown.columns).index(HEADINGS["pruned"])
    last = None
    for mark, row in zip(best, shown.to_numpy().tolist(), strict=True):
        if last is not None and row[:2] != last:
            yield r"\addlinespace"
        last = row[:2]
        cells = [
            escape(str(text)) if name in LEFT else number(str(text)) for name, text in zip(shown, row, strict=True)
        ]
        if mark:
            cells[pruned] = rf"\textbf{{{cells[pruned]}}}"
        # A row that began with [ or * would be an argument of the command before it.
        yield "{}" + " & ".join(cells) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def escape(text: str) -> str:
    """Text that LaTeX sets as it is, on one line."""
    return " ".join(text.split()).translate(SPECIAL)


def number(text: str) -> str:
    """A cell of numbers: a minus is not a hyphen."""
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", escape(text))
