"""Tables as text: terminal, Markdown, CSV, JSON, HTML."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from sgabench.errors import InputError
from sgabench.leaderboard import Tables
from sgabench.report.html import html
from sgabench.report.markdown import markdown
from sgabench.report.terminal import table
from sgabench.store import write_atomically
from sgabench.suite import Suite

Format = Literal["table", "markdown", "csv", "json", "html"]


def render(tables: Tables, form: Format, suite: Suite | None = None) -> str:
    """Write tables in a format, as a string that ends with a newline."""
    formats: dict[Format, Callable[[Tables, Suite | None], str]] = {
        "table": table,
        "markdown": markdown,
        "csv": lambda tables, _: csv(tables.leaderboard),
        "json": as_json,
        "html": html,
    }
    return formats[form](tables, suite)


def write_leaderboard(tables: Tables, folder: Path, suite: Suite) -> None:
    """Write ``leaderboard.md`` and ``leaderboard.csv`` into a folder.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "leaderboard.md", markdown(tables, suite).encode())
        write_atomically(folder / "leaderboard.csv", csv(tables.leaderboard).encode())
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; name another folder with --results") from None


def csv(frame: pd.DataFrame) -> str:
    """A table as CSV; text that a spreadsheet would take for a formula is quoted by an apostrophe."""
    safe = frame.map(lambda value: "'" + value if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value)
    return str(safe.to_csv(index=False, lineterminator="\n"))


def as_json(tables: Tables, suite: Suite | None = None) -> str:
    """Leaderboard, cells, trials, failures and environments as one JSON object."""
    content: dict[str, Any] = {
        "suite": suite.name if suite else None,
        "leaderboard": _records(tables.leaderboard),
        "cells": _records(tables.cells),
        "trials": _records(tables.trials),
        "failures": _records(tables.failures),
        "environments": list(tables.environments),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _records(frame: pd.DataFrame) -> Any:
    return json.loads(frame.to_json(orient="records", double_precision=15))
