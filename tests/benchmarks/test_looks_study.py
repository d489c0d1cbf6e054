"""The simulation of planned looks takes them as a run does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EVIDENCE = Path(__file__).parents[2] / "benchmarks" / "evidence"
LOOKS = (3, 5, 8)


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EVIDENCE))
    monkeypatch.delitem(sys.modules, "study", raising=False)  # one of the tests has the same name
    import study

    return study


def looked(study: Any, better: float) -> Any:
    """Two optimizers beside a reference, the second of which is so much better."""
    import looks

    random = np.random.default_rng(0)
    accuracy = 0.5 + random.normal(0, 0.02, (4, 3, LOOKS[-1], len(study.COLUMNS)))
    accuracy[:, 2] += better
    true = np.full((3, len(study.COLUMNS)), 0.5)
    true[2] += better
    of = study.Population("two", lambda random, reports, n: accuracy, 1000, ("a", "b", "c"), true)
    return looks.looked(accuracy, of, LOOKS)


def test_what_is_decided_gets_no_more_seeds(study: Any) -> None:
    found = looked(study, better=0.3)
    assert found["right"].tolist() == [[False, True, False, True]] * 4
    assert not found["wrong"].any()
    assert (found["trainings"] < 3 * LOOKS[-1]).all()


def test_a_direction_that_is_not_so_is_wrong_however_early_it_was_said(study: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("looks.truth", lambda of: (np.zeros(4), np.zeros((4, 4))), raising=True)
    found = looked(study, better=0.3)
    assert found["wrong"].all()
