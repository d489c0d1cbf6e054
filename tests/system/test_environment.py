"""What machine a record was made on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sgabench.system.environment import PeakMemory


def test_memory_that_is_taken_shows_in_the_peak() -> None:
    peak = PeakMemory("cpu")
    block = bytearray(64 << 20)
    assert len(block) == 64 << 20
    assert (peak.bytes() or 0) >= peak.growth() >= 0


def test_a_system_without_a_peak_costs_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc and the module resource, as on Windows, a record has no peak."""

    def missing(self: Path, *_: Any, **__: Any) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(Path, "write_text", missing)
    monkeypatch.setitem(sys.modules, "resource", None)
    peak = PeakMemory("cpu")
    assert (peak.bytes(), peak.growth()) == (None, 0)
