"""A store with all that a store has."""

from __future__ import annotations

from pathlib import Path

import pytest
from damage import fill_whole

from sgabench.store.store import Store
from sgabench.suite.plan import Plan


@pytest.fixture
def folder(tmp_path: Path, plan: Plan) -> Path:
    """Of results, with a record of every kind."""
    with Store(tmp_path / "results", create=True) as store:
        fill_whole(store, plan)
    return tmp_path / "results"
