"""What is in a results folder, without what is measured by a clock: two runs of the same suite must agree on it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

TIMES = {"seconds", "train_seconds", "train_images_per_s", "pruning_seconds", "peak_memory", "interruptions"}


def contents(results: Path) -> tuple[dict[str, Any], dict[str, bytes], int]:
    """Every record without what is measured by a clock, every weight file, and how often trainings were taken up."""
    database = sqlite3.connect(results / "store.sqlite")
    rows = database.execute("SELECT key, kind, parent, status, labels, description, result, detail FROM records")
    records = {}
    taken_up = 0
    for key, *texts, result, detail in rows.fetchall():
        taken_up += json.loads(result).get("interruptions", 0)
        numbers = {name: value for name, value in json.loads(result).items() if name not in TIMES}
        described = json.loads(detail)
        for row in (*described.get("history", ()), *described.get("finetuning", ())):
            del row["seconds"]
        records[key] = (*texts, numbers, described)
    database.close()
    return records, {path.name: path.read_bytes() for path in (results / "weights").iterdir()}, taken_up
