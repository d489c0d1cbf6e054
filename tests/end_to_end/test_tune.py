"""Tuning through the real command line: the tuned suite, a kill, and what is refused."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

Start = Callable[..., "subprocess.Popen[str]"]

ENDLESS = '''
import pathlib, time, torch
from sgabench.plugins import optimizers

@optimizers.register("endless")
def endless(parameters, *, lr: float = 0.01, sampling_rate: float = 0.8):
    """Adam that never comes to the end of a step."""
    class Endless(torch.optim.Adam):
        def step(self, closure=None):
            pathlib.Path("endless").touch()
            time.sleep(1e6)
    return Endless(parameters, lr=lr)
'''

TUNE = ("tune", "tiny.toml", "--tries", "4", "--device", "cpu")


def test_tune_is_killed_and_goes_on_and_then_tuned_runs_against_tuned(
    sgabench: Run, start: Start, tiny: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "endless.py"
    plugin.write_text(ENDLESS)
    text = tiny.read_text()
    tiny.write_text(text.replace('name = "stochgradadam"', 'name = "endless"'))
    command = [sys.executable, "-m", "sgabench", *TUNE, "--output", "tuned.toml", "--plugin", plugin]
    studies = tmp_path / "results" / "tuning.sqlite"
    process = start(*command, stderr=subprocess.DEVNULL)
    while not (tmp_path / "endless").exists():  # at the first try of the second optimizer
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    tiny.write_text(text)
    before = stored(studies)
    assert before == 4
    assert not (tmp_path / "tuned.toml").exists()

    done = sgabench(*TUNE, "--output", "tuned.toml")
    assert done.returncode == 0, done.stderr
    made = [line for line in done.stderr.splitlines() if re.search(r": try \d+/\d+: ", line)]
    assert [line.split(":")[0] for line in made] == ["adam"] * 4 + ["stochgradadam"] * 4
    assert [line.endswith(", stored") for line in made] == [True] * before + [False] * (8 - before)
    top1 = [float(re.search(r"validation top-1 (\d+\.\d) %", line)[1]) for line in made]  # type: ignore[index]
    assert made[4].startswith("stochgradadam: try 1/4: lr 0.01, weight_decay 0: ")
    for line, first in zip(done.stdout.splitlines()[1:3], (0, 4), strict=True):
        assert f"{top1[first]:.1f} → {max(top1[first : first + 4]):.1f}" in line
    assert "written: tuned.toml; next: sgabench run tuned.toml" in done.stdout
    chosen = (tmp_path / "tuned.toml").read_text()
    assert chosen.startswith("# Tuned by sgabench ")
    assert tomllib.loads(chosen)["training"] == tomllib.loads(tiny.read_text())["training"]
    assert "4 trials: 4 to run" in sgabench("plan", "tuned.toml").stdout.splitlines()

    ran = sgabench("run", "tuned.toml", "--quiet", "--device", "cpu", "--set", "seeds=[0]")
    assert ran.returncode == 0, ran.stderr
    (written,) = (tmp_path / "results").glob("tuned-*/leaderboard.csv")  # of its own, for what --set changed
    leaderboard = written.read_text()
    assert leaderboard.count(",magnitude,") == 2


def stored(studies: Path) -> int:
    """How many tries are on disk."""
    if not studies.is_file():
        return 0
    try:
        with sqlite3.connect(f"{studies.as_uri()}?mode=ro", uri=True) as database:
            (number,) = database.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()
            return int(number)
    except sqlite3.OperationalError:  # it is being made
        return 0


def test_without_the_extra_there_is_a_hint_and_the_rest_works(
    sgabench_process: Run, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "optuna.py").write_text("raise ImportError('not installed')\n")
    done = sgabench_process("tune", tiny, "--output", "tuned.toml")
    assert done.returncode == 2
    assert done.stderr == "error: sgabench tune needs optuna, which is not installed; run: pip install optuna tomlkit\n"
    assert sgabench_process("plan", tiny).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "tiny.toml", "--force"], "--output tiny.toml: would replace what it is made from"),
        (["--output", "tuned.toml", "--seed", "0"], "--seed 0: is one of the suite's seeds"),
        (["--output", "tuned.toml", "--lr-factors", "2", "3"], "--lr-factors 2 3: must be LOW and HIGH"),
        (["--output", "tuned.toml", "--tries", "0"], "--tries"),
        ([], "--output"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    sgabench: Run, tiny: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    before = tiny.read_text()
    done = sgabench("tune", "tiny.toml", *arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert tiny.read_text() == before
    assert not (tmp_path / "tuned.toml").exists()


def test_help_imports_neither_torch_nor_optuna(tmp_path: Path) -> None:
    code = """
import sys
from sgabench.cli import main
try:
    main(["tune", "--help"])
except SystemExit as stop:
    assert not stop.code
assert not {"torch", "optuna", "tomlkit"} & sys.modules.keys()
"""
    wide = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=wide, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--validation-size" in done.stdout
