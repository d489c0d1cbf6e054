"""The leaderboard for a terminal."""

from __future__ import annotations

import io
import shutil

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from sgabench.leaderboard import Tables
from sgabench.report.display import NOTE, failure_lines, sections
from sgabench.suite import Suite

LEFT = {"pruner", "ratio", "optimizer", "seeds without a result"}
WIDE = 160


def renderable(tables: Tables) -> RenderableType:
    """A Rich table per data set and model, and what failed."""
    parts: list[RenderableType] = []
    for title, frame in sections(tables).items():
        view = Table(title=Text(title, style="bold"), title_justify="left", header_style="bold", pad_edge=False)
        for name in frame.columns:
            view.add_column(Text(name), justify="left" if name in LEFT else "right", overflow="fold")
        previous = None
        for row in frame.to_dict("records"):
            block = (row["pruner"], row["ratio"])
            if previous is not None and block != previous:
                view.add_section()
            view.add_row(*(Text(str(value)) for value in row.values()))
            previous = block
        parts.append(view)
    if not parts:
        parts.append(Text("nothing is stored yet"))
    else:
        parts.append(Text(NOTE, style="dim"))
    parts.extend(Text(line, style="red") for line in failure_lines(tables))
    return Group(*parts)


def table(tables: Tables, suite: Suite | None = None) -> str:
    """The same as plain text, as wide as the terminal, or wide where there is none."""
    width = shutil.get_terminal_size((WIDE, 24)).columns
    console = Console(file=io.StringIO(), width=max(width, 80))
    console.print(renderable(tables))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"
