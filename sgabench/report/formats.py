"""Tables as text: terminal, Markdown, CSV, JSON, LaTeX, HTML."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from sgabench.errors import InputError
from sgabench.evidence.details import Details
from sgabench.evidence.leaderboard import OF_SEVERAL_SEEDS, Tables, each_cell
from sgabench.report.display import failures_text, warnings
from sgabench.report.folder import leaderboard_files
from sgabench.report.latex import latex
from sgabench.report.markdown import markdown
from sgabench.report.numbers import csv, records
from sgabench.report.profiles import profile_records
from sgabench.store.store import write_atomically
from sgabench.suite.resolving import Suite

Format = Literal["table", "markdown", "csv", "json", "html", "latex"]


def render(
    tables: Tables,
    form: Format,
    suite: Suite | None = None,
    *,
    cells: bool = False,
    details: Details | None = None,
    commands: Sequence[str] = (),
) -> str:
    """Write tables in a format, as a string that ends with a newline.

    Args:
        tables: what to write.
        form: the format.
        suite: whose name and description are shown.
        cells: a row per cell instead of the leaderboard's.
        details: only for HTML: data of its figures beside the tables.
        commands: for HTML and Markdown: how to reproduce it.
    """
    if form == "html":
        from sgabench.report.html import html  # Plotly takes a while to import

        return html(tables, suite, cells=cells, details=details, commands=commands)
    shown = each_cell(tables) if cells else tables
    if form == "table":
        from sgabench.report.terminal import table  # and so does Rich

        return table(shown, suite)
    formats: dict[Format, Callable[[Tables, Suite | None], str]] = {
        "markdown": lambda tables, suite: markdown(tables, suite, commands),
        "csv": lambda tables, _: csv(_without_statistics(tables.leaderboard) if cells else tables.leaderboard),
        "json": as_json,
        "latex": latex,
    }
    return formats[form](shown, suite)


def _without_statistics(cells: pd.DataFrame) -> pd.DataFrame:
    return cells.drop(columns=list(OF_SEVERAL_SEEDS), errors="ignore")


def write_leaderboard(tables: Tables, folder: Path, suite: Suite, commands: Sequence[str] = ()) -> None:
    """Write ``leaderboard.md`` and ``leaderboard.csv`` into a folder, and ``failures.txt`` if something failed.

    Raises:
        InputError: they cannot be written.
    """
    try:
        texts = markdown(tables, suite, commands), csv(tables.leaderboard), failures_text(tables)
        for path, text in zip(leaderboard_files(folder), texts, strict=True):
            if text:
                write_atomically(path, text.encode("utf-8", "backslashreplace"))
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; name another folder with --results") from None


def as_json(tables: Tables, suite: Suite | None = None) -> str:
    """Everything in the tables as one JSON object."""
    content: dict[str, Any] = {
        "suite": suite.name if suite else None,
        "warnings": warnings(tables),
        "leaderboard": records(tables.leaderboard),
        "comparisons": records(tables.comparisons),
        "curves": records(tables.curves),
        "ranks": _ranks(tables),
        "profiles": profile_records(tables.profiles),
        "probes": records(tables.probes if tables.probes is not None else pd.DataFrame()),
        "cells": records(tables.cells),
        "trials": records(tables.trials),
        "failures": records(tables.failures),
        "environments": list(tables.environments),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _ranks(tables: Tables) -> dict[str, Any]:
    ranks = tables.ranks
    numbers = {"critical_difference": ranks.critical_difference, "p": ranks.p}
    known = {name: value if value == value else None for name, value in numbers.items()}
    left_out = list(ranks.left_out)
    return {"optimizers": records(ranks.table), "blocks": ranks.blocks, **known, "left_out": left_out}
