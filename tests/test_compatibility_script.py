"""The script of docs/compatibility.md examines a network as it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "compatibility.py"
    spec = importlib.util.spec_from_file_location("compatibility", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_network_is_pruned_in_every_way(script: ModuleType) -> None:
    found = script.examine("resnet8")
    assert found["side"] == 32
    assert found["structured"]["removed"] == pytest.approx(0.5, abs=0.01)
    assert found["magnitude"]["zeros"] == pytest.approx(0.5, abs=0.02)
    assert f"| `resnet8` | 32 | {found['params'] / 1e6:.1f} M | yes | yes | 50% |" in script.page([found])


def test_what_cannot_be_built_is_a_row(script: ModuleType) -> None:
    found = script.examine("timm:nonesuch")
    assert "unknown model 'timm:nonesuch'" in found["error"]
    assert "channels are really removed in 0" in script.page([found])
