"""A plan, and a baseline of known numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import fill

from sgabench.gate.baseline import write_baseline
from sgabench.gate.measured import complete
from sgabench.store.store import Store
from sgabench.suite.plan import Plan


@pytest.fixture
def frozen(plan: Plan, tmp_path: Path) -> Path:
    """A baseline of known numbers."""
    with Store(tmp_path / "was", create=True) as store:
        fill(store, plan)
    path = tmp_path / "baseline.json"
    write_baseline(complete(plan, tmp_path / "was"), path)
    return path
