"""Suites that ask for very much: counted before anything is multiplied out, and refused or asked about."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import variant

from sgabench.errors import InputError
from sgabench.suite.limits import ASK_ABOVE
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]


def numbers(count: int) -> str:
    return f"[{', '.join(str(number / 1e6) for number in range(1, count + 1))}]"


def many_cells(suite: Path) -> Path:
    """101,000 cells: 2 optimizers, 505 seeds, 100 ratios."""
    variant(suite, "seeds = [0, 1]", f"seeds = {list(range(505))}")
    return variant(suite, "ratios = [0.5]", f"ratios = {numbers(100)}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr = 0.01\n", f"sweep = {{lr = {numbers(10_001)}}}\n", r"\(adam\): sweep: 10001 combinations; at most 10000"),
        (
            "lr = 0.01\n",
            f"sweep = {{lr = {numbers(9000)}, weight_decay = {numbers(9000)}, foreach = {numbers(9000)}}}\n",
            "729000000000 combinations",
        ),
        (
            'name = "adam"\nlr = 0.01\n',
            f'name = "torch:Adam"\nunknown = "{"x" * 10_000}"\nsweep = {{lr = {numbers(1000)}}}\n',
            "1000 combinations have 100.* characters in total",
        ),
        (
            'name = "adam"\nlr = 0.01\n',
            "".join(f'name = "adam"\nsweep = {{lr = {numbers(6000)}}}\n[[optimizers]]\n' for _ in range(2))
            + 'name = "sgd"\n',
            "optimizers: 12002 entries, sweeps expanded",
        ),
        ("seeds = [0, 1]", f"seeds = {list(range(10_001))}", "seeds: has 10001 items; at most 10000"),
        ("ratios = [0.5]", f"ratios = {numbers(1001)}", "ratios: has 1001 items; at most 1000"),
        ("epochs = 1", f"epochs{'.a' * 100_000} = 1", "a key has more than 100 parts"),
        ("epochs = 1", "epochs" + ' . "a"' * 150 + " = 1", "a key has more than 100 parts"),
        ("epochs = 1", f"epochs{'.a' * 60} = 1", "nested more than 50 levels deep"),
        ("epochs = 1", f"epochs = {'[' * 60}{']' * 60}", "nested more than 50 levels deep"),
        ("lr = 0.01", f"lr = {2**63}", f"optimizers.0.lr: must be a 64-bit integer, got {2**63}"),
        ("epochs = 1", f"{'e' * 500_000} = 1", "training.e+ ... e+: unknown key"),
        ("seeds = [0, 1]", 'seeds = [0]\nname = "tiny\\n"', "cannot name a folder"),
        ("seeds = [0, 1]", 'seeds = [0]\nname = "snapshots"', "cannot name a folder"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) and "\n" not in value else None,
)
def test_what_would_grow_without_bounds_is_refused(tiny: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_suite(variant(tiny, old, new))
    assert len(str(caught.value)) < 4000


def test_sections_are_counted_before_they_are_multiplied(tiny: Path) -> None:
    for optimizer in ("adam", "stochgradadam"):
        variant(tiny, f'name = "{optimizer}"\nlr = 0.01\n', f'name = "{optimizer}"\nsweep = {{lr = {numbers(1000)}}}\n')
    many_cells(tiny)
    message = r"tiny.toml: 103020000 records \(1010000 trials, 101000000 cells, 1010000 probes\); at most 1000000"
    with pytest.raises(InputError, match=message):
        make_plan(load_suite(tiny), Path("data"))


def test_a_plan_of_many_cells_is_shown_without_asking(sgabench: Run, tiny: Path) -> None:
    done = sgabench("plan", many_cells(tiny))
    assert done.returncode == 0, done.stderr
    assert f"{ASK_ABOVE + 1000:,} cells: " in done.stdout


@pytest.mark.parametrize("command", ["run", "check --baseline b.json --run", "tune --tries 60000 --output o.toml"])
def test_very_many_cells_need_a_yes_where_nobody_can_be_asked(
    sgabench: Run, tiny: Path, tmp_path: Path, command: str
) -> None:
    name, *options = command.split()
    (tmp_path / "b.json").write_text('{"format": 2, "suite": "tiny", "environments": [], "trials": [], "cells": []}')
    done = sgabench(name, many_cells(tiny), *options)
    assert done.returncode == 2
    what = "up to 120000 trainings" if name == "tune" else "1,010 trainings and 101,000 prunings are left to run"
    assert f"tiny.toml: {what}" in done.stderr
    assert done.stderr.endswith("; pass --yes to confirm\n")
    assert not (tmp_path / "results").exists()


def test_a_yes_and_an_only_go_on(sgabench: Run, tiny: Path) -> None:
    many_cells(tiny)
    refused = sgabench("run", tiny, "--yes", "--set", "training.batch_size=1000")
    assert refused.returncode == 2
    assert "training.batch_size 1000 is larger than the training split" in refused.stderr
    done = sgabench("run", tiny, "--only", "*/adam/7", "--set", "ratios=[0.5]", "--set", "measurement.throughput=false")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("answer", "message"), [(b"n\n", "nothing was run"), (b"\x04", "nothing was run")])
def test_on_a_terminal_it_asks(start: Start, tiny: Path, answer: bytes, message: str) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "sgabench", "run", str(many_cells(tiny))]
    process = start(*command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
    os.write(ours, answer)
    _, errors = process.communicate(timeout=300)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 2
    assert "1,010 trainings and 101,000 prunings are left to run. Run them? [y/N]: " in errors
    assert errors.endswith(f"{message}\n")
