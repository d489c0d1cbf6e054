"""The leaderboard for a terminal."""

from __future__ import annotations

import io
import shutil

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from sgabench.evidence.leaderboard import Tables
from sgabench.report.display import (
    ARMS,
    HEADINGS,
    LEFT,
    answers,
    failure_lines,
    in_short,
    note,
    sections,
    warnings,
    without_limits,
)
from sgabench.report.lists import list_view
from sgabench.report.rows import MOST_BESIDE, PROBES, probes_as_text
from sgabench.suite.resolving import Suite

WIDE = 180
NARROW = 140
NO_SENTENCES = 120
VERY_NARROW = 100
# Columns that may be wrapped, and their minimum widths.
WORDS = {**dict.fromkeys(ARMS, 22), "trained": 6, "verdict": 13, HEADINGS["incomplete"]: 10}
# Columns shown above a block, not in it.
ABOVE = ("pruner", "ratio")


def renderable(tables: Tables, width: int) -> RenderableType:
    """A Rich table per data set and model, with a block per pruner and ratio, and what failed."""
    parts: list[RenderableType] = []
    shown: set[str] = set()
    left_out: dict[str, None] = {}
    for title, frame in sections(tables).items():
        apart = 1 if width < VERY_NARROW else 2
        view = Table(title=Text(title, style="bold"), title_justify="left", box=None, padding=(0, apart, 0, 0))
        columns = _columns(list(frame.columns), width)
        shown.update(columns)
        left_out |= dict.fromkeys(str(name) for name in frame if name not in (*columns, *ABOVE))
        for name in columns:
            view.add_column(
                Text(name.replace(" %", "\N{NO-BREAK SPACE}%")),
                header_style="bold underline",
                justify="left" if name in LEFT else "right",
                no_wrap=name not in WORDS,
                overflow="fold",
                min_width=WORDS.get(name),
            )
        for number, ((pruner, ratio), block) in enumerate(frame.groupby(["pruner", "ratio"], sort=False)):
            if number:
                view.add_row()
            view.add_row(Text(f"{pruner}, {ratio}", style="bold"))
            if width < NARROW and "verdict" in columns:
                shorter = in_short if width < NO_SENTENCES else without_limits
                block = block.assign(verdict=list(map(shorter, block["verdict"])))
            for row in block[columns].itertuples(index=False, name=None):
                view.add_row(Text(f"  {row[0]}"), *(Text(str(value)) for value in row[1:]))
        parts.append(view)
    parts.extend(Text(line, style="bold") for line in answers(tables))
    if tables.probes is not None and len(tables.probes):
        parts += [Text(), *_probes(tables.probes, tables.arm), Text()]
    parts.append(Text(note(shown), style="dim") if parts else Text("nothing is stored yet"))
    if left_out:
        hint = (
            f"Left out here: {', '.join(left_out)}. A terminal of {WIDE} columns and the other formats show everything."
        )
        parts.append(Text(hint, style="dim"))
    parts.extend(Text(line, style="red") for line in failure_lines(tables))
    return Group(*(Text(line, style="red") for line in warnings(tables)), *parts)


def _probes(probes: pd.DataFrame, arm: str) -> list[RenderableType]:
    """What probes found; where it is too much, only means that they give of it, and where the rest is."""
    if len(probes) <= MOST_BESIDE:
        return [list_view(probes_as_text(probes, arm), PROBES)]
    means = probes[probes["number"] == "mean"]
    if not 0 < len(means) <= MOST_BESIDE:
        return [Text(f"{PROBES}: report --probes")]
    return [list_view(probes_as_text(means, arm), PROBES), Text("Every number: report --probes", style="dim")]


def _columns(names: list[str], width: int) -> list[str]:
    """What fits: the first column of a block is its optimizer, and a narrow terminal shows fewer numbers."""
    left_out = set(ABOVE)
    if width < WIDE:
        left_out.add(HEADINGS["interval"])
    if width < NARROW:
        left_out |= {
            HEADINGS[name] for name in ("top5", "sparsity", "compression", "theoretical", "measured", "seconds")
        }
    if width < VERY_NARROW:
        left_out.add(HEADINGS["retention"])
    shown = [name for name in names if name not in left_out]
    return sorted(shown, key=lambda name: name == "verdict")  # wrapped words come last


def table(tables: Tables, suite: Suite | None = None) -> str:
    """The same as plain text, as wide as the terminal, or wide where there is none."""
    width = max(80, shutil.get_terminal_size((WIDE, 24)).columns)
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable(tables, width))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"
