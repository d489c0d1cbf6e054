"""Many runs on one results folder: one of them computes each trial and each cell, whatever happens to the others."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import called_in_a_fork

Start = Callable[..., "subprocess.Popen[str]"]

TORTURE = bool(os.environ.get("SGABENCH_TORTURE"))
RUNS = 8 if TORTURE else 3
ROUNDS = 10 if TORTURE else 0

SUITE = f"""
seeds = {list(range(6 if TORTURE else 2))}
ratios = [0.5, 0.8]

[training]
epochs = {6 if TORTURE else 1}
batch_size = 64
weight_averaging = "ema"

[measurement]
min_run_time = 0.001

[[datasets]]
name = "digits"
train_size = {1024 if TORTURE else 128}

[[models]]
name = "resnet8"
width = 4

[[optimizers]]
name = "counted"

[[optimizers]]
name = "stochgradadam"

[[pruners]]
name = "counted"
"""
PLUGIN = '''
import os, torch
from sgabench.plugins import optimizers, pruners

def count(what):
    with open("computed.log", "a") as log:  # one write, which appends as a whole
        log.write(f"{what} {os.getpid()}\\n")

@optimizers.register("counted")
def counted(parameters, *, lr: float = 0.01):
    """Adam that writes down when a training begins."""
    class Counted(torch.optim.Adam):
        def step(self, closure=None):
            if not self.state:
                count("training")
            return super().step(closure)
    return Counted(parameters, lr=lr)

@pruners.register("counted")
def counted_pruner(network, ratio):
    """The smallest weights of each layer, written down."""
    count("cell")
    for weight in (parameter.data for parameter in network.parameters() if parameter.dim() > 1):
        weight[weight.abs() < weight.abs().quantile(ratio)] = 0
    return network
'''
MEASURED_BY_A_CLOCK = re.compile(r"(^|_)(s|seconds)$|^(peak_memory|measured_speedup|latency_speedup|interruptions)$")


def command(results: str, jobs: int = 1) -> list[str]:
    line = ["run", "suite.toml", "--plugin", "counted.py", "--results", results]
    return [*line, "--device", "cpu", "--jobs", str(jobs), "--snapshot-minutes", "0.005" if TORTURE else "5"]


def begin(start: Start, folder: Path, results: str, log: Path, jobs: int = 1) -> subprocess.Popen[str]:
    # As many threads in each, so that all make the same bits.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "sgabench", *command(results, jobs)]
    with log.open("w") as log_file:
        return start(*line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log_file)


def end(folder: Path, results: str, log: Path) -> int:
    """Run in a fork until it ends, and give its exit code."""
    done = called_in_a_fork(folder, command(results), {})
    log.write_text(done.stderr)
    return done.returncode


def contents(results: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Every record without what is measured by a clock, and every weight file."""
    database = sqlite3.connect(results / "store.sqlite")
    rows = database.execute("SELECT key, kind, parent, status, labels, description, result, detail FROM records")
    records = {}
    for key, *texts, result, detail in rows.fetchall():
        numbers = {name: value for name, value in json.loads(result).items() if not MEASURED_BY_A_CLOCK.search(name)}
        described = json.loads(detail)
        for row in described.get("history", []):
            del row["seconds"]
        records[key] = (*texts, numbers, described)
    database.close()
    return records, {path.name: path.read_bytes() for path in (results / "weights").iterdir()}


@dataclass
class Seen:
    """What runs said: how often which training ended, and every line that is not as it should be."""

    trained: Counter[str]
    strange: list[str]


def read(logs: list[Path]) -> Seen:
    seen = Seen(Counter(), [])
    expected = (": finished", ": finished by another run", " of other runs", " to run on cpu", " is stored")
    for line in (line for log in logs for line in log.read_text().splitlines()):
        line = line.partition("; all: about ")[0]  # how long it still takes
        name, _, rest = line.partition(": ")
        if rest.startswith("dense top-1"):
            seen.trained[name] += 1
        elif not line.endswith(expected) and not rest.startswith("epoch"):
            seen.strange.append(line)
    return seen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "suite.toml").write_text(SUITE)
    (tmp_path / "counted.py").write_text(PLUGIN)
    return tmp_path


def alone(folder: Path) -> tuple[dict[str, Any], dict[str, bytes], list[str]]:
    """What a run by itself makes, and what it computes for that."""
    assert end(folder, "alone", folder / "alone.log") == 0
    computed = (folder / "computed.log").read_text().splitlines()
    (folder / "computed.log").unlink()
    return *contents(folder / "alone"), [line.split()[0] for line in computed]


def test_many_runs_at_once_compute_everything_once(folder: Path) -> None:
    records, weights, computed = alone(folder)
    logs = [folder / f"{number}.log" for number in range(RUNS)]
    with ThreadPoolExecutor(RUNS) as runs:
        assert list(runs.map(lambda log: end(folder, "shared", log), logs)) == [0] * RUNS
    seen = read(logs)
    assert seen.strange == []
    lines = [line.split() for line in (folder / "computed.log").read_text().splitlines()]
    assert sorted(what for what, _ in lines) == sorted(computed)
    assert set(seen.trained.values()) == {1}
    assert len(seen.trained) == len(weights)
    assert contents(folder / "shared") == (records, weights)
    assert {path.name for path in (folder / "shared" / "claims").iterdir()} <= {"computing.lock", "timing.lock"}
    assert (folder / "shared/suite/leaderboard.csv").exists()


@pytest.mark.skipif(not TORTURE, reason="make torture")
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_runs_that_are_killed_cost_the_others_nothing(start: Start, folder: Path, round_: int) -> None:
    """SIGKILL at random moments, to a run alone or to its workers too; another run takes its place."""
    records, weights, _ = alone(folder)
    chance = random.Random(round_)
    logs: list[Path] = []

    def one_more() -> subprocess.Popen[str]:
        logs.append(folder / f"{len(logs)}.log")
        return begin(start, folder, "shared", logs[-1], jobs=chance.choice([1, 1, 1, 2]))

    runs = [one_more() for _ in range(RUNS)]
    survivors, killed = [], 0
    while runs:
        time.sleep(chance.uniform(0.5, 4))
        if killed < 2 * RUNS:
            run = runs.pop(chance.randrange(len(runs)))
            if run.poll() is None:
                killed += 1
                (os.killpg if chance.random() < 0.5 else os.kill)(run.pid, signal.SIGKILL)
            run.wait()
            runs.append(one_more())
        survivors += [run for run in runs if run.poll() is not None]
        runs = [run for run in runs if run.poll() is None]
    assert [run.returncode for run in survivors] == [0] * len(survivors)
    seen = read(logs)
    print(f"{killed} killed, {len(survivors)} ended; trainings told: {sum(seen.trained.values())}")
    assert seen.strange == []
    assert max(seen.trained.values()) == 1
    assert contents(folder / "shared") == (records, weights)
    assert not list((folder / "shared" / "snapshots").glob("[!.]*"))
