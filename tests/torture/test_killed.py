"""Killed or stopped at random moments and started again: the records and weights of an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from contents import contents
from support import called_in_a_fork

Start = Callable[..., "subprocess.Popen[str]"]

TORTURE = bool(os.environ.get("SGABENCH_TORTURE"))
STOPS = 50 if TORTURE else 2
SEEDS = [0, 1] if TORTURE else [0]
PATIENCE = 600  # seconds until what should be gone in one or two is called stuck: machines stand still at times
HOWS = ["SIGKILL", "SIGTERM", "Ctrl-C twice"] if TORTURE else ["SIGKILL"]

SUITE = f"""
seeds = {SEEDS}
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


def command(suite: Path, results: str, jobs: int, minutes: float) -> list[str]:
    line = [sys.executable, "-m", "sgabench", "run", str(suite), "--results", results]
    return [*line, "--device", "cpu", "--jobs", str(jobs), "--snapshot-minutes", str(minutes)]


@dataclass
class Story:
    """What happened to a run that was stopped again and again.

    Attributes:
        stops: how often it was stopped.
        rounds: how often it was through before enough stops, and started anew.
        snapshots: name and time of each that a stop left.
        codes: exit codes of what was stopped.
        seconds: from each SIGTERM or Ctrl-C to the end of the process.
    """

    stops: int = 0
    rounds: int = 0
    snapshots: set[tuple[str, int]] = field(default_factory=set)
    codes: dict[int, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


def stop(process: subprocess.Popen[str], how: str, chance: random.Random) -> None:
    """Send the signals, to the process alone or to its workers, too."""
    together = chance.random() < 0.5

    def send(number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if together else os.kill)(process.pid, number)

    if how == "Ctrl-C twice":
        send(signal.SIGINT)
        time.sleep(chance.uniform(0, 0.3))
        send(signal.SIGINT)
    else:
        send(signal.Signals[how])
    process.wait(timeout=PATIENCE)


def wait_for_orphans(group: int) -> None:
    """Workers whose parent is gone go, too."""
    end = time.monotonic() + PATIENCE
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)
            assert time.monotonic() < end, "a worker outlived the run"
            time.sleep(0.01)


def wait_for_a_moment(process: subprocess.Popen[str], log_file: Path, chance: random.Random) -> int | None:
    """Wait for a random moment, mostly of the trainings, sometimes before them; gives the exit code if it is over."""
    started = time.monotonic()
    if chance.random() < 0.1:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=chance.uniform(0.3, 2))
        return None
    while process.poll() is None and b"to run on cpu" not in log_file.read_bytes():
        time.sleep(0.01)
    start = time.monotonic() - started  # as long as workers take to start, too
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=chance.uniform(0, start + 2.5 * len(SEEDS)))
    return None


def stop_again_and_again(
    start: Start, line: list[str], results: Path, how: str, chance: random.Random, story: Story
) -> None:
    """Run a command until it is through, or has been stopped often enough; then let it be through."""
    log_file = results.with_name(f"{results.name}.log")
    while story.stops < STOPS:
        with log_file.open("wb") as log:
            process = start(*line, cwd=results.parent, stdout=log, stderr=log)
        code = wait_for_a_moment(process, log_file, chance)
        if code is None:
            started = time.monotonic()
            stop(process, how, chance)
            code = process.returncode
            story.stops += 1
            story.codes[code] = story.codes.get(code, 0) + 1
            story.seconds.append(time.monotonic() - started)
        wait_for_orphans(process.pid)
        # Before the run has taken over the signals, Python itself dies of them.
        assert code in (-2, -15) or b"Traceback" not in log_file.read_bytes(), log_file.read_text()
        story.snapshots |= {(path.name, path.stat().st_mtime_ns) for path in (results / "snapshots").glob("[!.]*")}
        if code == 0:
            return
    subprocess.run(line, cwd=results.parent, check=True, capture_output=True)


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Where the tests themselves run in the background, Ctrl-C is ignored, and so it would be by what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("jobs", [1, 2] if TORTURE else [1])
@pytest.mark.parametrize("how", HOWS)
def test_a_run_that_is_stopped_again_and_again_ends_like_one_that_is_not(
    start: Start, tmp_path: Path, how: str, jobs: int
) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE)
    undisturbed = called_in_a_fork(tmp_path, command(suite, "undisturbed", jobs, 0)[3:], {})
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected_records, expected_weights, _ = contents(tmp_path / "undisturbed")
    assert len(expected_weights) == 3 * len(SEEDS)
    # Who asks a run to stop gets a snapshot without any that are due before; who kills it does not.
    minutes = 0 if how == "SIGTERM" else 0.001
    chance, story, taken_up = random.Random(f"{how} {jobs}"), Story(), 0
    while story.stops < STOPS:
        results = tmp_path / f"stopped{story.rounds}"
        stop_again_and_again(start, command(suite, results.name, jobs, minutes), results, how, chance, story)
        story.rounds += 1
        records, weights, interruptions = contents(results)
        assert weights == expected_weights
        assert records == expected_records
        assert not list((results / "snapshots").glob("*"))
        taken_up += interruptions
    print(
        how, f"jobs={jobs}", f"stops={story.stops} rounds={story.rounds} taken up={taken_up} exit codes={story.codes}"
    )
    print(f"seconds until it was gone: median {sorted(story.seconds)[STOPS // 2]:.2f}, most {max(story.seconds):.2f}")
    assert taken_up == len(story.snapshots), "a training did not go on from its snapshot"
    valid = {"SIGKILL": {-9, 0}, "SIGTERM": {143, -15, 0}, "Ctrl-C twice": {130, -2, 0}}[how]
    assert set(story.codes) <= valid
