"""Killed at random moments and started again: the records and weights of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TORTURE = bool(os.environ.get("SGABENCH_TORTURE"))
KILLS = 50 if TORTURE else 2

SUITE = f"""
seeds = [0, 1]
ratios = [0.5, 0.8]

[training]
epochs = {40 if TORTURE else 8}
batch_size = 64
schedule = "cosine"
augmentation = ["crop", "flip"]
weight_averaging = "ema"

[measurement]
throughput = false

[[datasets]]
name = "digits"

[[models]]
name = "resnet8"
width = 4

[[optimizers]]
name = "adam"

[[optimizers]]
name = "stochgradadam"

[[optimizers]]
name = "sampled:SGD"
lr = 0.1
momentum = 0.9

[[pruners]]
name = "magnitude"
"""
TIMES = {"seconds", "train_seconds", "train_images_per_s", "pruning_seconds", "peak_memory", "interruptions"}


def command(suite: Path, results: str, jobs: int) -> list[str]:
    line = [sys.executable, "-m", "sgabench", "run", str(suite), "--results", results, "--quiet"]
    return [*line, "--jobs", str(jobs), "--snapshot-minutes", "0.001"]


def contents(results: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Every record without what is measured by a clock, and every weight file."""
    database = sqlite3.connect(results / "store.sqlite")
    rows = database.execute("SELECT key, kind, parent, status, labels, description, result, detail FROM records")
    records = {}
    for key, *texts, result, detail in rows.fetchall():
        numbers = {name: value for name, value in json.loads(result).items() if name not in TIMES}
        described = json.loads(detail)
        for row in described.get("history", []):
            del row["seconds"]
        records[key] = (*texts, numbers, described)
    database.close()
    return records, {path.name: path.read_bytes() for path in (results / "weights").iterdir()}


@pytest.mark.parametrize("jobs", [1, 2] if TORTURE else [1])
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_is_not(tmp_path: Path, jobs: int) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE)
    subprocess.run(command(suite, "undisturbed", jobs), cwd=tmp_path, check=True)
    moments = random.Random(jobs)
    killed = 0
    while killed < KILLS:
        process = subprocess.Popen(command(suite, "killed", jobs), cwd=tmp_path, start_new_session=True)
        time.sleep(moments.uniform(1.5, 6))
        if process.poll() is None:
            killed += 1
        elif (tmp_path / "killed").is_dir():
            assert process.returncode == 0
            break  # it was faster than the kills
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command(suite, "killed", jobs), cwd=tmp_path, check=True)
    records, weights = contents(tmp_path / "killed")
    expected_records, expected_weights = contents(tmp_path / "undisturbed")
    assert weights == expected_weights
    assert records == expected_records
    assert not list((tmp_path / "killed" / "snapshots").glob("*"))
