"""What `sgabench bench` has measured, as text."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgabench.bench.benchmark import Benchmark
from sgabench.report.display import environment_line
from sgabench.report.markdown import escape

Form = Literal["table", "markdown", "json"]


def render(benchmark: Benchmark, form: Form) -> str:
    """A table for the terminal, the same as Markdown, or the raw numbers as JSON; it ends with a newline."""
    if form == "json":
        content = {"subject": benchmark.subject, "environment": benchmark.environment, "rows": benchmark.rows}
        return json.dumps(content, indent=1, allow_nan=False) + "\n"
    lines = [benchmark.note, environment_line(benchmark.environment)]
    if form == "markdown":
        return "\n".join([*_markdown(benchmark.shown), "", *(f"{escape(line)}\n" for line in lines)])
    return _table(benchmark.shown) + "\n" + "\n".join(lines) + "\n"


def _markdown(rows: Sequence[Mapping[str, str]]) -> list[str]:
    headings = list(rows[0])
    rule = ["---" if column < 2 else "---:" for column in range(len(headings))]
    cells = [[escape(value) for value in row.values()] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (headings, rule, *cells)]


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    view = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column, heading in enumerate(rows[0]):
        view.add_column(heading, justify="left" if column < 2 else "right", no_wrap=column > 0, overflow="fold")
    for row in rows:
        view.add_row(*(Text(value) for value in row.values()))
    width = max(100, shutil.get_terminal_size((120, 24)).columns)
    console = Console(file=io.StringIO(), width=width)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"
