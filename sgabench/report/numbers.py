"""A table's numbers for programs: CSV and JSON."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd


def csv(frame: pd.DataFrame) -> str:
    """A table as CSV; text that a spreadsheet would take for a formula gets an apostrophe."""
    safe = frame.copy(deep=False)
    for name, column in frame.items():
        if not pd.api.types.is_numeric_dtype(column):  # most columns are numbers, and most of the time was theirs
            safe[name] = column.map(_harmless)
    return str(safe.to_csv(index=False, lineterminator="\n"))


def _harmless(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def records(frame: pd.DataFrame) -> Any:
    """A table as JSON values, a dictionary per row; infinity and NaN become None."""
    return json.loads(frame.to_json(orient="records", double_precision=15))
