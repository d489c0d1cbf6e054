"""Shared by all tests: a suite that takes a second, and the command line as a user has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import TINY

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
def sgabench(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command line in a folder of its own."""

    def call(*arguments: str | Path, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sgabench", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return call
