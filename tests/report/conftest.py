"""A study with known numbers, for every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from study import HOSTILE, STUDY, Study, put_study

from sgabench.evidence.details import load_details
from sgabench.evidence.leaderboard import make_tables
from sgabench.plugins import optimizers
from sgabench.store.store import Store
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    """Make the study, from its suite's text with some of it replaced."""

    def make(*changes: tuple[str, str], by: str = "ratio") -> Study:
        if HOSTILE not in [plugin.name for plugin in optimizers.plugins()]:
            optimizers.register(HOSTILE)(lambda parameters, *, lr=0.1: None)
        text = STUDY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "study.toml"
        path.write_text(text, encoding="utf-8")
        suite = load_suite(path)
        plan = make_plan(suite, Path("data"))
        results = tmp_path / "results"
        with Store(results, create=True) as store:
            put_study(store, plan)
            tables = make_tables(store, plan, by=by)
            return Study(suite, plan, tables, load_details(store, tables), results)

    return make


@pytest.fixture
def study(make_study: Callable[..., Study]) -> Study:
    return make_study()
