"""Shared by all tests: a suite that takes a second, and the command line as a user has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support import TINY, Warm, called_here, end_group

from sgabench.plugins.registry import REGISTRIES
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite

# Two test processes share two cores; more threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# On a busy machine everything is slow; that is no finding.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
# Who starts tests in the background of a shell has Ctrl-C ignored, and so would the commands that are tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Who ends the tests lets them end what they have started.
signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", 143))


@pytest.fixture(autouse=True)
def _own_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    for registry in REGISTRIES.values():
        registry.load()
        monkeypatch.setattr(registry, "_plugins", dict(registry._plugins))
        monkeypatch.setattr(registry, "_sources", dict(registry._sources))


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A command line that was stopped in this process ignores Ctrl-C; what comes after it must not."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _own_libraries() -> Iterator[None]:
    """Where a test found nothing compiled, those after it look again."""
    yield
    for name in ("models.batch_norm", "optimizers.compiled", "system.convolution"):
        module = sys.modules.get(f"sgabench.{name}")
        if module is not None and module.problem.cache_info().currsize and module.problem() is not None:
            module.problem.cache_clear()
            module._library.cache_clear()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A suite file of two optimizers, two seeds, one pruner."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def plan(tiny: Path) -> Plan:
    """Of the tiny suite."""
    return make_plan(load_suite(tiny), Path("data"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty one."""
    with Store(tmp_path / "results", create=True) as store:
        yield store


@pytest.fixture
def forked_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that are measured are in processes which have imported torch already."""
    monkeypatch.setattr("sgabench.running.loops.multiprocessing", Warm)


Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command in a process group of its own; after the test the group is gone, whatever happens."""
    started: list[subprocess.Popen[str]] = []

    def begin(*command: str | Path, **options: Any) -> subprocess.Popen[str]:
        arguments = {"cwd": tmp_path, "text": True, **options}
        started.append(subprocess.Popen([*map(str, command)], start_new_session=True, **arguments))
        return started[-1]

    yield begin
    for process in started:
        end_group(process)


@pytest.fixture
def sgabench_process(tmp_path: Path, start: Start) -> Run:
    """Run the real command line in a folder of its own, in a process of its own."""

    def call(*arguments: str | Path, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sgabench", *map(str, arguments)]
        process = start(*command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return call


@pytest.fixture
def sgabench(tmp_path: Path, sgabench_process: Run) -> Run:
    """Run the command line in a folder of its own, in this process, which has imported everything already.

    With variables that only a new process sees (not ``COLUMNS`` and the choice of an implementation) in one of its own.
    """

    def call(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        if env.keys() - {"COLUMNS", "SGABENCH_IMPLEMENTATION"}:
            return sgabench_process(*arguments, **env)
        return called_here(tmp_path, [*map(str, arguments)], env)

    return call
