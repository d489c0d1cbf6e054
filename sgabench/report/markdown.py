"""The leaderboard as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from sgabench.evidence.leaderboard import Tables
from sgabench.report.display import (
    CURVE_NOTE,
    LEFT,
    answers,
    curve_table,
    environment_lines,
    failure_lines,
    note,
    sections,
    warnings,
)
from sgabench.report.profiles import NOTE, profile_table, profiles_in_words
from sgabench.report.rows import PROBES, probes_as_text
from sgabench.suite.resolving import Suite


def markdown(tables: Tables, suite: Suite | None = None, commands: Sequence[str] = ()) -> str:
    """Title, a table per data set and model, failures, the commands that made it, and environments."""
    lines = [f"# Leaderboard of {escape(suite.name)}" if suite else "# Leaderboard", ""]
    if suite and suite.description:
        lines += [escape(suite.description), ""]
    lines += [line for warning in warnings(tables) for line in (f"**{escape(warning)}**", "")]
    lines += [line for answer in answers(tables) for line in (escape(answer), "")]
    parts = sections(tables)
    for title, frame in parts.items():
        lines += [f"## {escape(title)}", "", *pipe_table(frame), ""]
    lines += [note() if parts else "Nothing is stored yet.", ""]
    curves = curve_table(tables)
    if len(curves):
        lines += ["## Curves over ratios", "", *pipe_table(curves), "", CURVE_NOTE, ""]
    if tables.profiles:
        words = escape(profiles_in_words(tables.profiles, tables.arm))
        lines += ["## Performance profiles", "", words, "", *pipe_table(profile_table(tables.profiles, tables.arm))]
        lines += ["", NOTE, ""]
    if tables.probes is not None and len(tables.probes):
        lines += ["## Probes", "", f"{PROBES}.", "", *pipe_table(probes_as_text(tables.probes, tables.arm)), ""]
    failures = failure_lines(tables)
    if failures:
        lines += ["## Failures", "", *(f"- {escape(line)}" for line in failures), ""]
    lines += ["## How it was made", ""]
    if commands:
        lines += [*(f"    {line}" for command in commands for line in command.splitlines()), ""]
    lines += [f"- {escape(line)}" for line in environment_lines(tables)]
    return "\n".join(lines).rstrip() + "\n"


def pipe_table(frame: pd.DataFrame) -> Iterable[str]:
    """A table of texts, line by line."""
    yield "| " + " | ".join(escape(name) for name in frame.columns) + " |"
    yield "|" + "|".join("---" if name in LEFT else "---:" for name in frame.columns) + "|"
    columns = []
    for name in frame.columns:
        texts = list(map(str, frame[name].tolist()))
        escaped = {text: escape(text) for text in set(texts)}  # many are equal
        columns.append([escaped[text] for text in texts])
    for row in zip(*columns, strict=True):
        yield "| " + " | ".join(row) + " |"


SPECIAL = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{mark: f"\\{mark}" for mark in "\\`*_[]|"}})
MARKS = re.compile(r"[&<>\\`*_\[\]|]")


def escape(text: str) -> str:
    """Escape text for Markdown: no markup, no HTML, one line."""
    line = " ".join(text.split())
    return line.translate(SPECIAL) if MARKS.search(line) else line  # most have none, and the search is faster
