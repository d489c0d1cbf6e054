"""Trainings of several lengths, compared where they cost the same."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import variant

Run = Callable[..., "subprocess.CompletedProcess[str]"]

LENGTHS = """
[[optimizers]]
name = "sgd"
sweep = {training = [{epochs = 1}, {epochs = 3}]}

[[optimizers]]
name = "sam:SGD"
lr = 0.1
"""


def test_a_report_at_equal_passes(sgabench: Run, tiny: Path) -> None:
    text = variant(tiny, "train_size = 256", "train_size = 64").read_text()
    before, pruners = text.split("[[optimizers]]")[0], text[text.index("[[pruners]]") :]
    tiny.write_text(f"{before}{LENGTHS}\n{pruners}".replace("ratios = [0.5]", "ratios = [0.5, 0.8]"))
    assert sgabench("run", tiny).returncode == 0

    as_asked = json.loads(sgabench("report", tiny, "--format", "json").stdout)
    short, long, sam = "sgd training={epochs = 1}", "sgd training={epochs = 3}", "sam:SGD"
    passes = {row["optimizer"]: row["train_passes"] for row in as_asked["leaderboard"]}
    assert passes == {short: 1, long: 3, sam: 2}

    shown = json.loads(sgabench("report", tiny, "--format", "json", "--by", "passes").stdout)
    measured = {(row["optimizer"], row["seed"], row["ratio"]): row for row in as_asked["cells"]}
    share = math.log(2) / math.log(3)
    assert len(shown["cells"]) == 2 * 2 * 2
    for row in shown["cells"]:
        place = row["seed"], row["ratio"]
        expected = measured[(sam, *place)]["pruned_top1"]
        if row["optimizer"] == "sgd":
            ends = [measured[(label, *place)]["pruned_top1"] for label in (short, long)]
            expected = ends[0] + share * (ends[1] - ends[0])
        assert row["pruned_top1"] == pytest.approx(expected)
        assert (row["train_passes"], row["interpolated"]) == (2, row["optimizer"] == "sgd")

    table = sgabench("report", tiny, "--by", "passes", COLUMNS="160").stdout
    assert "digits, resnet8 at 2 passes" in table
    assert "sgd (interpolated)" in table
    assert "sam:SGD (interpolated)" not in table
    everything = sgabench("report", "--by", "passes", "--format", "markdown", "--reference", "sam:SGD").stdout
    assert "| sgd (interpolated) |" in everything


def test_what_cannot_be_compared_is_refused(sgabench: Run, tiny: Path) -> None:
    variant(tiny, "train_size = 256", "train_size = 64")
    variant(tiny, "lr = 0.01\nsampling_rate", "lr = 0.01\ntraining = {epochs = 2}\nsampling_rate")
    assert sgabench("run", tiny).returncode == 0
    done = sgabench("report", tiny, "--by", "passes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "adam on digits, resnet8 (1 pass); stochgradadam on digits, resnet8 (2 passes)" in done.stderr
