"""The main job through the real command line: from a suite file to a leaderboard."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import fill, timed, variant

from sgabench.store.store import Store
from sgabench.suite.plan import Plan

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]

STRUCTURED = '\n[[pruners]]\nname = "structured"\nof = "params"\nratios = [0.3]\n'


def records(tmp_path: Path, columns: str = "key, result", results: str = "results") -> list[tuple[str, ...]]:
    database = sqlite3.connect(tmp_path / results / "store.sqlite")
    rows = database.execute(f"SELECT {columns} FROM records WHERE kind = 'trial' ORDER BY key").fetchall()
    database.close()
    return rows


def test_from_a_suite_to_a_leaderboard_and_never_the_same_twice(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text() + STRUCTURED)
    first = sgabench("run", tiny, "--device", "cpu")
    assert first.returncode == 0, first.stderr
    assert "4 trainings and 8 prunings to run on cpu" in first.stderr
    assert "stochgradadam" in first.stdout
    assert "magnitude, 0.5 of weights" in first.stdout
    assert "structured, 0.3 of params" in first.stdout

    rows = list(csv.DictReader((tmp_path / "results/tiny/leaderboard.csv").open()))
    assert len(rows) == 4
    assert {row["n"] for row in rows} == {"2"}
    structured = [row for row in rows if row["pruner"] == "structured"]
    assert all(float(row["compression_ratio"]) == pytest.approx(1 / 0.7, rel=0.03) for row in structured)
    assert "| magnitude |" in (tmp_path / "results/tiny/leaderboard.md").read_text()
    assert len(list((tmp_path / "results/weights").iterdir())) == 4

    stored = records(tmp_path, "key, finished_at")
    again = sgabench("run", tiny, "--device", "cpu")
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert again.stderr == "nothing to do: all of it is stored\n"
    assert records(tmp_path, "key, finished_at") == stored

    variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.7]")
    more = sgabench("run", tiny, "--device", "cpu")
    assert more.returncode == 0
    assert "4 prunings of stored networks to run" in more.stderr
    assert "dense top-1" not in more.stderr
    assert records(tmp_path, "key, finished_at") == stored


def test_two_at_a_time_measure_the_same_and_are_timed_alone(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    timed(tiny)
    assert sgabench("run", tiny, "--only", "*/0").returncode == 0
    one_at_a_time = dict(records(tmp_path))
    (tmp_path / "results").rename(tmp_path / "first")
    done = sgabench("run", tiny, "--only", "*/0", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    two_at_a_time = dict(records(tmp_path))
    assert set(two_at_a_time) == set(one_at_a_time)
    for key, text in two_at_a_time.items():
        result = json.loads(text)
        assert result["timed_alone"] is True
        expected = json.loads(one_at_a_time[key])
        for name in ("top1", "loss", "train_loss", "weights_sha256"):
            assert result[name] == expected[name]


def test_weights_are_kept_where_storage_says(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    arguments = ("run", tiny, "--only", "*/adam/0", "--storage", f"memory://{tmp_path}")
    assert sgabench(*arguments).returncode == 0
    assert not list((tmp_path / "results" / "weights").iterdir())
    variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.7]")
    more = sgabench(*arguments)
    assert (more.returncode, "dense top-1" in more.stderr) == (0, False)  # nothing is trained again
    elsewhere = sgabench("run", tiny, "--storage", "s4://bucket")
    assert elsewhere.returncode == 2
    assert elsewhere.stderr.startswith("error: --storage s4://bucket: ValueError: Protocol not known: s4")


PLUGIN = '''
import os, signal, torch
from sgabench.plugins import optimizers, pruners

@optimizers.register("careful")
def careful(parameters, *, lr: float = 0.01, fail: str = ""):
    """Adam that can be told to fail."""
    class Careful(torch.optim.Adam):
        def step(self, closure=None):
            if fail == "raise":
                raise RuntimeError("told to fail")
            if fail == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if fail == "slow":
                import pathlib, time
                pathlib.Path("slow").touch()
                time.sleep(0.5)
            return super().step(closure)
    return Careful(parameters, lr=lr)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "careful.py"
    path.write_text(PLUGIN)
    return path


def test_a_failing_trial_is_reported_and_the_others_run(
    sgabench: Run, tiny: Path, plugin: Path, tmp_path: Path
) -> None:
    variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "careful"\nfail = "raise"')
    done = sgabench("run", tiny, "--plugin", plugin)
    assert done.returncode == 1
    assert "digits/resnet8/careful/0: failed: RuntimeError: told to fail" in done.stderr
    assert "stochgradadam" in done.stdout
    assert "failed 0, 1" in done.stdout
    assert "RuntimeError: told to fail" in done.stdout
    errors = [error for (error,) in records(tmp_path, "error") if error]
    assert len(errors) == 2
    assert all(error.startswith("Traceback") and "careful.py" in error for error in errors)

    quiet = sgabench("run", tiny, "--plugin", plugin, "--quiet", "--only", "*/careful/0")
    assert quiet.returncode == 1
    assert quiet.stdout == ""
    line, where = quiet.stderr.strip().splitlines()[-2:]
    assert line.startswith("failed: trial digits/resnet8/careful/0: RuntimeError: told to fail (")
    assert where == ("tracebacks: in failures.txt, beside the run's leaderboard, and under failures in --format json")
    (folder,) = (tmp_path / "results").glob("tiny*/")
    assert "Traceback (most recent call last)" in (folder / "failures.txt").read_text()

    plugin.write_text(PLUGIN.replace('fail == "raise"', 'fail == "never"'))
    mended = sgabench("run", tiny, "--plugin", plugin)
    assert mended.returncode == 0, mended.stderr
    assert "2 trainings and 2 prunings to run" in mended.stderr


def test_a_worker_that_dies_in_a_cell_costs_neither_the_training_nor_silence(
    sgabench: Run, tiny: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "deadly.py"
    plugin.write_text(
        "import os, signal\nfrom sgabench.plugins import pruners\n"
        "@pruners.register('deadly')\ndef deadly(network):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    tiny.write_text(tiny.read_text() + '\n[[pruners]]\nname = "deadly"\n')
    for _ in ("fresh", "stored"):
        done = sgabench("run", tiny, "--plugin", plugin, "--jobs", "2", "--only", "*/0")
        assert done.returncode == 1
        assert "failed: cell digits/resnet8/adam/0/deadly/0.5: the worker process was killed by SIGKILL" in " ".join(
            done.stdout.split()
        )
        assert [status for (status,) in records(tmp_path, "status")] == ["done", "done"]


@pytest.mark.parametrize(("how", "jobs"), [(signal.SIGKILL, "1"), (signal.SIGINT, "2")], ids=["killed", "ctrl-c"])
def test_what_is_finished_survives_a_stop(
    sgabench: Run, start: Start, tiny: Path, plugin: Path, tmp_path: Path, how: signal.Signals, jobs: str
) -> None:
    variant(tiny, "seeds = [0, 1]", "seeds = [0]")
    variant(tiny, 'name = "stochgradadam"\nlr = 0.01\nsampling_rate = 0.8', 'name = "careful"\nfail = "slow"')
    variant(tiny, "epochs = 1", "epochs = 40")
    variant(tiny, 'name = "adam"\n', 'name = "adam"\ntraining = {epochs = 1}\n')
    command = [sys.executable, "-m", "sgabench", "run", tiny, "--plugin", plugin, "--jobs", jobs]
    process = start(*command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert any(line.startswith("1/2 digits/resnet8/adam/0") for line in process.stderr)
    while not (tmp_path / "slow").exists() or len(records(tmp_path)) < 1:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    rest = process.stderr.read()
    assert process.wait(timeout=300) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    if how == signal.SIGINT:
        assert "finished work is stored" in rest
        assert "Traceback" not in rest

    plan = sgabench("plan", tiny, "--plugin", plugin)
    assert "2 trials: 1 stored, 1 to run" in plan.stdout
    (stored,) = records(tmp_path, "finished_at")
    variant(tiny, "epochs = 40", "epochs = 1")
    done = sgabench("run", tiny, "--plugin", plugin, "--set", "optimizers.careful.training.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "1 training and 1 pruning to run" in done.stderr
    assert stored in records(tmp_path, "finished_at")


def weights(results: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (results / "weights").iterdir()}


def test_a_training_that_is_terminated_goes_on_where_it_was(
    sgabench: Run, start: Start, tiny: Path, tmp_path: Path
) -> None:
    variant(tiny, "seeds = [0, 1]", "seeds = [0]")
    variant(tiny, "epochs = 1", "epochs = 60")
    assert sgabench("run", tiny, "--results", "undisturbed").returncode == 0
    for jobs in ("1", "2"):
        stopped = f"stopped{jobs}"
        command = ("run", str(tiny), "--jobs", jobs, "--results", stopped)
        snapshots = tmp_path / stopped / "snapshots"
        line = [sys.executable, "-m", "sgabench", *command, "--snapshot-minutes", "0.002"]
        process = start(*line, stderr=subprocess.PIPE)
        while not list(snapshots.glob("[!.]*")):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)  # as a service manager does: the workers get it, too
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 143
        assert errors.endswith("stopped: finished work is stored; run the same command to continue\n")
        assert list(snapshots.glob("[!.]*"))

        done = sgabench(*command)
        assert done.returncode == 0, done.stderr
        assert weights(tmp_path / stopped) == weights(tmp_path / "undisturbed")
        interrupted = [json.loads(result)["interruptions"] for (result,) in records(tmp_path, "result", stopped)]
        assert sum(interrupted) >= 1
        assert not list(snapshots.iterdir())


def test_a_dry_run_checks_everything_and_makes_nothing(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    done = sgabench("run", tiny, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "4 trials: 4 to run" in done.stdout
    assert not (tmp_path / "results").exists()
    bad = sgabench("run", variant(tiny, 'name = "adam"', 'name = "torch:Adm"'), "--dry-run")
    assert bad.returncode == 2
    assert "did you mean" in bad.stderr


def test_from_python(tiny: Path, tmp_path: Path) -> None:
    code = f"""
from sgabench import load_suite, run
tables = run(load_suite({str(tiny)!r}), results={str(tmp_path / "out")!r}, only="*/adam/*")
print(len(tables.cells), tables.leaderboard.loc[0, "n"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 2\n"


def test_run_and_plan_warn_of_a_large_part_of_each_epoch_that_is_left_out(
    sgabench: Run, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warning = "warning: dataset 'digits': batch_size 64 drops 36 of 100 training images in each epoch"
    few = ("--set", "datasets.digits.train_size=100")
    assert warning in sgabench("plan", tiny, *few).stdout
    assert sgabench("run", tiny, *few, "--dry-run").returncode == 0
    assert caplog.text.count(warning) == 1  # on the standard error, if nobody listens
    assert "warning" not in sgabench("plan", tiny).stdout


def test_a_run_with_set_leaves_the_leaderboard_of_the_suite_alone(
    sgabench: Run, tiny: Path, tmp_path: Path, plan: Plan
) -> None:
    with Store(tmp_path / "results", create=True) as store:
        fill(store, plan)
    assert sgabench("run", variant(tiny, "ratios = [0.5]", "ratios = [0.5]\nprobes = []")).returncode == 0
    board = tmp_path / "results" / "tiny" / "leaderboard.md"
    before = board.read_bytes()
    changed = sgabench("run", tiny, "--set", "seeds=[0]")
    assert changed.returncode == 0
    assert board.read_bytes() == before
    (own,) = (tmp_path / "results").glob("tiny-*")
    assert f"written: results/{own.name}/leaderboard.md" in changed.stdout
    assert (own / "leaderboard.csv").is_file()
    assert "    sgabench run tiny.toml --set 'seeds=[0]'\n" in (own / "leaderboard.md").read_text()
    assert "    sgabench run tiny.toml\n" in board.read_text()
