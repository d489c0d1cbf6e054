"""What fails, dies or hangs: a record of its own, the others go on, and it can be taken up again."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import variant

from sgabench.running.runner import carry_out

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]

PLUGIN = '''
import ctypes, os, signal, time
from pathlib import Path
import torch
from sgabench.plugins import optimizers, pruners

def misbehave(how):
    if how == "raise" and not Path("mended").exists():
        raise RuntimeError("told to fail")
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(7)
    if how == "memory":
        bytearray(1 << 62)
    if how == "deaf":  # to a wish to stop
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how in ("deaf", "asleep"):
        with Path("hanging").open("a") as hanging:
            hanging.write(".")
        while True:
            time.sleep(0.1)
    if how == "late":
        while not Path("go").exists():
            time.sleep(0.05)
        raise RuntimeError("told to fail")

@optimizers.register("careful")
def careful(parameters, *, how: str = ""):
    """Adam that can be told to misbehave."""
    class Careful(torch.optim.Adam):
        def step(self, closure=None):
            with Path("tried").open("a") as tried:
                tried.write(f"{how} ")
            misbehave(how)
            return super().step(closure)
    return Careful(parameters, lr=0.01)

@pruners.register("rash")
def rash(network, ratio, *, how: str = ""):
    """Prune nothing, or misbehave."""
    if ratio < 0.6:
        misbehave(how)
    return network
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "careful.py"
    path.write_text(PLUGIN)
    return path


def optimizer(how: str) -> str:
    return f'\n[[optimizers]]\nname = "careful"\nlabel = "{how}"\nhow = "{how}"\n'


def pruner(how: str) -> str:
    return f'\n[[pruners]]\nname = "rash"\nhow = "{how}"\nratios = [0.5, 0.7]\n'


def suite(tiny: Path, *more: str) -> Path:
    """The suite with Adam, one seed, and more."""
    variant(tiny, '[[optimizers]]\nname = "stochgradadam"\nlr = 0.01\nsampling_rate = 0.8\n', "")
    variant(tiny, "seeds = [0, 1]", "seeds = [0]")
    tiny.write_text(tiny.read_text() + "".join(more))
    return tiny


def records(tmp_path: Path, kind: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Status, error and environment by name: optimizer/seed, for cells /pruner/ratio behind it."""
    database = sqlite3.connect(tmp_path / "results" / "store.sqlite")
    query = "SELECT labels, status, error, content FROM records JOIN environments ON id = environment WHERE kind = ?"
    rows = database.execute(query, (kind,)).fetchall()
    database.close()
    found = {}
    for text, status, error, environment in rows:
        labels = json.loads(text)
        parts = ["optimizer", "seed"] if kind == "trial" else ["optimizer", "seed", "pruner", "ratio"]
        name = "/".join(str(labels[part]) for part in parts)
        found[name] = (status, error, json.loads(environment))
    return found


def test_whatever_becomes_of_a_worker_is_a_record_and_the_others_go_on(
    sgabench: Run, tiny: Path, plugin: Path, tmp_path: Path
) -> None:
    causes = {
        "segfault": "the worker process was killed by SIGSEGV, while it was at the training",
        "exit": "the worker process ended with exit code 7, while it was at the training",
        "memory": "MemoryError",
    }
    more = [optimizer(how) for how in causes]
    suite(tiny, *more, pruner("segfault"), '\n[[pruners]]\nname = "random"\n')
    # A limit of time alone asks for processes, too.
    done = sgabench("run", tiny, "--plugin", plugin, "--trial-timeout", "30")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    trials = records(tmp_path, "trial")
    assert trials.keys() == {"adam/0", *(f"{how}/0" for how in causes)}
    for how, cause in causes.items():
        status, error, environment = trials[f"{how}/0"]
        assert (status, error.strip().splitlines()[-1]) == ("failed", cause)
        assert environment["packages"]["torch"]
        assert f"failed: trial digits/resnet8/{how}/0" in done.stdout
    assert trials["adam/0"][0] == "done"
    cells = records(tmp_path, "cell")
    assert {name: status for name, (status, *_) in cells.items()} == {
        "adam/0/magnitude/0.5": "done",
        "adam/0/rash/0.5": "failed",
        "adam/0/rash/0.7": "done",
        "adam/0/random/0.5": "done",
    }
    assert cells["adam/0/rash/0.5"][1] == "the worker process was killed by SIGSEGV, while it was at cell rash/0.5"
    assert cells["adam/0/rash/0.5"][2]["packages"]["torch"]


def test_what_hangs_is_ended_and_the_others_go_on(
    sgabench: Run, tiny: Path, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite(tiny, optimizer("deaf"), pruner("asleep"), '\n[[pruners]]\nname = "random"\n')
    hanging = tmp_path / "hanging"
    # Time passes only when something hangs, so that nothing else is too slow on a busy machine.
    clock = partial(carry_out, clock=lambda: 100.0 * hanging.stat().st_size if hanging.exists() else 0.0)
    monkeypatch.setattr("sgabench.running.runner.carry_out", clock)
    done = sgabench("run", tiny, "--plugin", plugin, "--trial-timeout", "0.01")
    assert done.returncode == 1, done.stderr
    message = "--trial-timeout: not finished after 0.01 minutes, while it was at"
    status, error, environment = records(tmp_path, "trial")["deaf/0"]
    assert (status, error) == ("failed", f"{message} the training")
    assert environment["packages"]["torch"]
    cells = records(tmp_path, "cell")
    assert {name: status for name, (status, *_) in cells.items()} == {
        "adam/0/magnitude/0.5": "done",
        "adam/0/rash/0.5": "failed",
        "adam/0/rash/0.7": "done",
        "adam/0/random/0.5": "done",
    }
    assert cells["adam/0/rash/0.5"][1] == f"{message} cell rash/0.5"
    assert (tmp_path / "tried").read_text() == "deaf "


def test_only_what_failed_is_tried_again(sgabench: Run, tiny: Path, plugin: Path, tmp_path: Path) -> None:
    suite(tiny, optimizer("raise"), pruner("raise"))
    variant(tiny, "seeds = [0]", "seeds = [0, 1]")
    arguments = ("run", tiny, "--plugin", plugin)
    nowhere = sgabench(*arguments, "--retry", "failed")
    assert (nowhere.returncode, nowhere.stderr.strip().splitlines()[-1][:45]) == (
        2,
        "error: results folder results: does not exist",
    )
    first = sgabench(*arguments, "--only", "*/0")
    assert first.returncode == 1, first.stderr
    stored = records(tmp_path, "cell").keys()
    assert stored == {"adam/0/magnitude/0.5", "adam/0/rash/0.5", "adam/0/rash/0.7"}

    shown = sgabench(*arguments, "--retry", "failed", "--dry-run")
    assert "2 trials: 1 failed, 1 stored\n4 cells: 1 failed, 3 to run" in shown.stdout

    (tmp_path / "mended").touch()
    done = sgabench(*arguments, "--retry", "failed")
    assert done.returncode == 0, done.stderr
    assert "1 training and 4 prunings to run" in done.stderr
    assert records(tmp_path, "trial").keys() == {"adam/0", "raise/0"}
    cells = records(tmp_path, "cell")
    assert cells.keys() == {*stored, *(name.replace("adam", "raise") for name in stored)}
    assert {status for status, *_ in cells.values()} == {"done"}

    again = sgabench(*arguments, "--retry", "failed")
    assert again.returncode == 0
    assert again.stderr == "nothing to retry: no trial, cell or probe of this suite is recorded as failed\n"
    assert again.stdout == done.stdout


def test_what_fails_in_one_run_is_reported_by_the_others_and_not_tried_again(
    start: Start, tiny: Path, plugin: Path, tmp_path: Path
) -> None:
    suite(tiny, optimizer("late"), pruner("late"))
    command = [sys.executable, "-m", "sgabench", "run", str(tiny), "--plugin", str(plugin)]
    command += ["--device", "cpu"]
    runs = [start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for run in runs:
        assert run.stderr is not None
        # What the other one has stored by then is not to run any more: Adam's training and cells.
        assert run.stderr.readline().endswith("to run on cpu\n")
    (tmp_path / "go").touch()
    for run in runs:
        shown, errors = run.communicate(timeout=300)
        assert run.returncode == 1, errors
        assert "failed: trial digits/resnet8/late/0: RuntimeError: told to fail" in shown
        assert "failed: cell digits/resnet8/adam/0/rash/0.5: RuntimeError: told to fail" in shown
    assert (tmp_path / "tried").read_text() == "late "
    assert {status for status, *_ in records(tmp_path, "cell").values()} == {"done", "failed"}
    assert len(records(tmp_path, "cell")) == 3


@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_a_limit_of_time_that_is_none_is_refused(sgabench: Run, tiny: Path, value: str) -> None:
    refused = sgabench("run", tiny, "--trial-timeout", value)
    assert refused.returncode == 2
    assert refused.stderr == f"error: --trial-timeout {value}: must be more than 0 minutes\n"


ORPHAN = '''
import fcntl, os, signal, time
from pathlib import Path
import torch
from sgabench.plugins import optimizers

@optimizers.register("alone")
def alone(parameters):
    """Adam that must be the only one at work, and at first never comes to an end."""
    class Alone(torch.optim.Adam):
        def step(self, closure=None):
            if not hasattr(self, "file"):
                self.file = Path("at-work").open("a")
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.file.write(f"{os.getpid()}\\n")
                self.file.flush()
            if Path("hang").exists():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                while True:
                    time.sleep(0.1)
            return super().step(closure)
    return Alone(parameters, lr=0.01)
'''


def test_a_trial_of_a_killed_run_is_free_when_its_worker_is_gone_and_not_before(
    start: Start, tiny: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "alone.py"
    plugin.write_text(ORPHAN)
    suite(tiny)
    variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "alone"')
    at_work, hang = tmp_path / "at-work", tmp_path / "hang"
    hang.touch()
    command = [sys.executable, "-m", "sgabench", "run", str(tiny), "--plugin", str(plugin)]

    killed = start(*command, "--jobs", "2", stderr=subprocess.PIPE)
    assert killed.stderr is not None
    while not (at_work.exists() and at_work.read_text().endswith("\n")):
        assert killed.poll() is None
        time.sleep(0.1)
    orphan = int(at_work.read_text())
    os.kill(orphan, signal.SIGSTOP)  # it cannot even notice that it is one
    killed.kill()
    killed.wait()
    hang.unlink()

    second = start(*command, stderr=subprocess.PIPE)
    assert second.stderr is not None
    for line in second.stderr:
        if line == "waiting for 1 trial of other runs\n":
            break
    else:
        raise AssertionError("the second run did not wait")
    assert at_work.read_text() == f"{orphan}\n"
    os.kill(orphan, signal.SIGCONT)
    rest = second.stderr.read()
    assert second.wait(timeout=300) == 0, rest
    assert len(at_work.read_text().splitlines()) == 2
