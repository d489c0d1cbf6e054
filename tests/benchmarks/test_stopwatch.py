"""The scripts that tell what a run spends its time on."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import pytest
from support import variant

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("time_to_verdict", BENCHMARKS / "time_to_verdict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_parts_of_a_run_are_all_of_it(script: ModuleType, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent)
    variant(tiny, "train_size = 256", "train_size = 64")
    parts, verdicts = script.watched([str(tiny)], time.time())
    whole = parts.pop("all")
    assert sum(parts.values()) == pytest.approx(whole, abs=0.01)
    assert all(parts[name] > 0 for name in ("start-up and rehearsals", "training", "evaluation", "pruning", "report"))
    assert parts["speed"] == 0
    assert verdicts == ["few: stochgradadam: no verdict with fewer than 3 seeds"]
    assert "| training | 1.50 | 75 |\n| all | 2.00 | 100 |" in script.shown({"training": 1.5, "all": 2.0})
