"""Long tables beside the leaderboard, of layers and probes, in every text format."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sgabench.report.display import LEFT
from sgabench.report.latex import escape as latex_text
from sgabench.report.latex import number as latex_number
from sgabench.report.markdown import pipe_table
from sgabench.report.numbers import csv

WIDE = 180


def render_list(rows: pd.DataFrame, texts: pd.DataFrame, form: str, title: str) -> str:
    """Write a table, as a string that ends with a newline.

    Args:
        rows: with numbers, for CSV and JSON.
        texts: as shown to a reader, for the others.
        form: table, markdown, csv, json or latex.
        title: of the table.
    """
    if form == "csv":
        return csv(rows)
    if form == "json":
        return json.dumps(json.loads(rows.to_json(orient="records", double_precision=15)), indent=1) + "\n"
    if form == "markdown":
        return "\n".join([f"# {title}", "", *(pipe_table(texts) if len(texts) else ["Nothing is stored."])]) + "\n"
    if form == "latex":
        return "\n".join(_latex(texts, title)) + "\n"
    return _terminal(texts, title)


def _latex(texts: pd.DataFrame, title: str) -> Sequence[str]:
    columns = "".join("l" if name in LEFT else "r" for name in texts)
    lines = ["% Needs \\usepackage[T1]{fontenc}, \\usepackage{booktabs} and \\usepackage{longtable}."]
    lines += [rf"\begin{{longtable}}{{{columns}}}", rf"\caption{{{latex_text(title)}}}\\", r"\toprule"]
    lines += [
        " & ".join(latex_text(str(name)) for name in texts) + r" \\",
        r"\midrule",
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
    ]
    for row in texts.itertuples(index=False, name=None):
        cells = [
            latex_text(str(value)) if name in LEFT else latex_number(str(value))
            for name, value in zip(texts, row, strict=True)
        ]
        lines.append("{}" + " & ".join(cells) + r" \\")
    return [*lines, r"\end{longtable}"]


def _terminal(texts: pd.DataFrame, title: str) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=max(80, shutil.get_terminal_size((WIDE, 24)).columns))
    console.print(list_view(texts, title) if len(texts) else "nothing is stored", markup=False)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def list_view(texts: pd.DataFrame, title: str) -> Any:
    """The table for a terminal; columns with one value are moved to the title."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    same = [name for name in texts if name in ("data set", "model", "n") and texts[name].nunique() == 1]
    about = ", ".join(f"n = {texts[name].iloc[0]}" if name == "n" else texts[name].iloc[0] for name in same)
    shown = texts.drop(columns=same)
    heading = Text(f"{title}: {about}" if about else title, style="bold")
    view = Table(box=None, padding=(0, 2, 0, 0))
    for name in shown:
        view.add_column(
            Text(str(name)), header_style="bold underline", justify="left" if name in LEFT else "right", overflow="fold"
        )
    for row in shown.itertuples(index=False, name=None):
        view.add_row(*(Text(str(value)) for value in row))
    return Group(heading, view)  # as a title it would be as narrow as the table
