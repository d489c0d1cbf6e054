"""Rounds of seeds through the command line: only as many as it takes, kept, and gone on with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from sgabench.store.store import Store

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def stored(results: Path) -> dict[str, int]:
    """Trainings of each optimizer."""
    counts: dict[str, int] = {}
    with Store(results) as store:
        for record in store.records("trial"):
            counts[record.labels["optimizer"]] = counts.get(record.labels["optimizer"], 0) + 1
    return counts


def test_rounds_are_run_looked_at_and_not_run_again(tiny: Path, tmp_path: Path, sgabench: Run) -> None:
    tiny.write_text(tiny.read_text().replace("seeds = [0, 1]", "seeds = {from = 5, to = 6}"))
    results = tmp_path / "results"
    command = ("run", str(tiny), "--results", str(results))
    done = sgabench(*command)
    assert done.returncode == 0, done.stderr
    looks = json.loads((results / "tiny" / "looks.json").read_text())
    assert looks["planned"] == [5, 6]
    seeds = looks["taken"][-1]["seeds"]
    assert seeds in (5, 6)
    assert set(stored(results).values()) <= {5, 6}
    assert max(stored(results).values()) == seeds
    assert "of the error rate" in " ".join(done.stdout.split())
    before = (results / "tiny" / "looks.json").read_bytes()
    again = sgabench(*command)
    assert again.returncode == 0
    assert (results / "tiny" / "looks.json").read_bytes() == before
    only = sgabench(*command, "--only", "*/adam/*")
    assert only.returncode == 2
    assert "--only: rounds of seeds concern all optimizers" in only.stderr


def test_looks_cannot_be_planned_afterwards(tiny: Path, tmp_path: Path, sgabench: Run) -> None:
    results = tmp_path / "results"
    tiny.write_text(tiny.read_text().replace("seeds = [0, 1]", "seeds = [0, 1, 2]"))
    assert sgabench("run", str(tiny), "--results", str(results)).returncode == 0
    late = sgabench("run", str(tiny), "--results", str(results), "--until-decided")
    assert late.returncode == 2
    assert "already been looked at, without a plan" in late.stderr
    assert stored(results) == {"adam": 3, "stochgradadam": 3}
