"""Nodes of Ray that disappear, workers and commands that are stopped or killed: the records of an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contents import contents
from ray_nodes import PLUGIN, ray_cluster
from support import variant

ray = pytest.importorskip("ray", reason="needs the extra: pip install 'sgabench[ray]'")

pytestmark = pytest.mark.skipif(not os.environ.get("SGABENCH_TORTURE"), reason="takes minutes: make torture")

ROOT = Path(__file__).parents[2]
PATIENCE = 600  # seconds

Run = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """The command's node takes no trials; two others do."""
    with ray_cluster(0, 1, 1) as nodes:
        yield nodes


@pytest.fixture
def plugin(tmp_path: Path, tiny: Path) -> Path:
    """In place of Adam, one to which something can happen."""
    variant(tiny, 'name = "adam"', 'name = "careful"')
    path = tmp_path / "careful.py"
    path.write_text(PLUGIN)
    return path


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def at_work(cluster: Any) -> list[str]:
    """The workers of a cluster on this machine that have a task or are an actor; idle ones are called so by Ray."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            name = (process / "cmdline").read_bytes().split(b"\0")[0].decode()
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and name.startswith(("ray::run_on_worker", "ray::Inbox")):
                found.append(name)
    return found


@pytest.mark.parametrize("storage", [False, True])
@pytest.mark.parametrize("what", ["kill node", "cut off node", "stop worker", "kill worker"])
def test_whatever_is_lost_is_done_again_and_counted_once(
    sgabench: Run,
    tiny: Path,
    plugin: Path,
    tmp_path: Path,
    cluster: Any,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    storage: bool,
) -> None:
    arguments = ["run", tiny, "--plugin", plugin, "--device", "cpu", "--snapshot-minutes", "0.00001"]
    assert sgabench(*arguments, "--results", "local").returncode == 0
    monkeypatch.setenv("SGABENCH_TEST", f"{what}:{tmp_path / 'mark'}")
    arguments += ["--storage", f"file://{tmp_path}/storage"] if storage else []
    done = sgabench(*arguments, "--executor", "ray", "--address", cluster.address)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mark").exists()
    assert (done.stderr.count(": finished"), done.stderr.count(": started on")) == (4, 5)
    if storage:
        (tmp_path / "results" / "weights").rmdir()
        (tmp_path / "storage" / "weights").rename(tmp_path / "results" / "weights")
    records, weights, interruptions = contents(tmp_path / "results")
    assert (records, weights) == contents(tmp_path / "local")[:2]
    assert interruptions == 1


def test_a_worker_that_dies_again_has_failed(sgabench: Run, tiny: Path, plugin: Path, tmp_path: Path) -> None:
    plugin.write_text(PLUGIN.replace("                once()", "                os.kill(os.getpid(), signal.SIGKILL)"))
    with ray_cluster(2) as cluster:
        done = sgabench("run", tiny, "--plugin", plugin, "--executor", "ray", "--address", cluster.address)
    assert done.returncode == 1, done.stderr
    rows = sqlite3.connect(tmp_path / "results" / "store.sqlite").execute("SELECT status, error FROM records")
    failed = [error for status, error in rows if status == "failed"]
    assert len(failed) == 2
    for error in failed:
        assert error.startswith("the worker process of Ray died: WorkerCrashedError")
        assert error.endswith("while it was at the training")


def test_a_trial_that_takes_too_long_is_ended(sgabench: Run, tiny: Path, plugin: Path, tmp_path: Path) -> None:
    plugin.write_text(PLUGIN.replace("                once()", "                time.sleep(1e6)"))
    with ray_cluster(2) as cluster:
        arguments = ("run", tiny, "--plugin", plugin, "--executor", "ray", "--address", cluster.address)
        done = sgabench(*arguments, "--only", "*/careful/0", "--trial-timeout", "0.05")
    assert done.returncode == 1, done.stderr
    assert "failed: --trial-timeout: not finished after 0.05 minutes, while it was at the training" in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_a_command_that_is_stopped_leaves_the_cluster_clean_and_goes_on(
    start: Start, tiny: Path, plugin: Path, tmp_path: Path, cluster: Any, how: signal.Signals
) -> None:
    variant(tiny, "epochs = 1", "epochs = 10")
    plugin.write_text(PLUGIN.replace("== 2", ">= 2"))
    command = [sys.executable, "-m", "sgabench", "run", str(tiny), "--plugin", str(plugin), "--device", "cpu"]
    subprocess.run([*command, "--results", "local"], cwd=tmp_path, check=True, capture_output=True)
    on_ray = [*command, "--executor", "ray", "--address", cluster.address, "--snapshot-minutes", "0.005"]
    slow = {**os.environ, "SGABENCH_TEST": f"slow:{tmp_path / 'mark'}"}
    with (tmp_path / "log").open("w") as log:
        process = start(*on_ray, env=slow, stdout=log, stderr=log)
    snapshots = tmp_path / "results" / "snapshots"
    wait_for(lambda: list(snapshots.glob("[!.]*")) if how == signal.SIGKILL else (tmp_path / "mark").exists())
    assert "ray::run_on_worker" in str(at_work(cluster))
    os.kill(process.pid, how)
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how]
    assert process.wait(timeout=PATIENCE) == expected, (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()
    wait_for(lambda: not at_work(cluster))
    assert list(snapshots.glob("[!.]*"))
    subprocess.run(on_ray, cwd=tmp_path, check=True, capture_output=True)
    records, weights, interruptions = contents(tmp_path / "results")
    assert (records, weights) == contents(tmp_path / "local")[:2]
    assert interruptions >= 1


def test_rounds_of_seeds_run_on_three_nodes(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    variant(tiny, "seeds = [0, 1]", "seeds = {from = 3, to = 5}")
    assert sgabench("run", tiny, "--results", "local", "--until-decided").returncode == 0
    with ray_cluster(0, 1, 1, 1) as cluster:
        done = sgabench("run", tiny, "--until-decided", "--executor", "ray", "--address", cluster.address)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "results") == contents(tmp_path / "local")


def test_three_nodes_run_quickstart_as_one_machine_does(sgabench: Run, tmp_path: Path) -> None:
    arguments = ("run", ROOT / "suites" / "quickstart.toml", "--device", "cpu", "--set", "measurement.throughput=false")
    assert sgabench(*arguments, "--results", "local").returncode == 0
    with ray_cluster(0, 1, 1, 1) as cluster:
        done = sgabench(*arguments, "--executor", "ray", "--address", cluster.address)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "results") == contents(tmp_path / "local")
