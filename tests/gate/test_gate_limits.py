"""Baselines that claim very much, and rules that are refused before anything is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgabench.errors import InputError
from sgabench.gate.baseline import Baseline, Group, Spread, read_baseline, write_baseline
from sgabench.gate.check import check
from sgabench.suite.rules import GateTable

NAMES: dict[str, Any] = {"dataset": "digits", "model": "resnet8", "optimizer": "adam"}


def group(values: list[float], metric: str = "retention", **names: Any) -> Group:
    """A cell with these values; with none of them, one whose seed 0 is missing."""
    metrics = {metric: Spread.of(values)} if values else {}
    seeds, lacking = tuple(range(len(values))), {} if values else {0: "missing"}
    cell = {**NAMES, "pruner": "magnitude", "ratio": 0.5, "of": "weights", **names}
    return Group(**cell, seeds=seeds, keys=tuple(map(str, seeds)), lacking=lacking, metrics=metrics)


def baseline(*cells: Group) -> Baseline:
    names = dict.fromkeys(cell.optimizer for cell in cells)
    trials = tuple(
        Group(**{**NAMES, "optimizer": name}, seeds=(), keys=(), metrics={}, classes=10, test_images=360)
        for name in names
    )
    return Baseline(suite="s", environments=(), trials=trials, cells=cells)


def test_what_a_baseline_claims_is_counted_before_it_is_written_out(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    write_baseline(baseline(group([0.25, 0.75])), path)
    data = json.loads(path.read_text())
    cell, claim = data["cells"][0], {"mean": 0.5, "std": 0.0, "n": 10_000}
    path.write_text(json.dumps({**data, "cells": [{**cell, "metrics": dict.fromkeys(map(str, range(500)), claim)}]}))
    with pytest.raises(InputError, match=r"cells\.0\.metrics: unknown metric '0'$"):
        read_baseline(path)
    cells = [{**cell, "optimizer": str(number), "metrics": {"retention": claim}} for number in range(201)]
    path.write_text(json.dumps({**data, "cells": cells}))
    with pytest.raises(InputError, match="2010000 values of metrics; at most 2000000"):
        read_baseline(path)


def test_every_name_that_the_suite_does_not_have_is_a_gap_of_its_own() -> None:
    was = baseline(*[group([0.25, 0.75], optimizer=f"adam{number}") for number in range(2000)])
    outcome = check(was, baseline(group([0.25, 0.75])), GateTable())
    assert len(outcome.gaps) == 2000
    assert "optimizer 'adam7' of the baseline (1 cell;" in outcome.gaps[7]


def test_a_statistical_rule_of_ones_own_is_refused_before_anything_is_measured() -> None:
    rules = GateTable.model_validate({"pruned_top1": {"rule": "statistical"}})
    with pytest.raises(InputError, match=r"gate\.pruned_top1\.rule: 'statistical' needs 3 seeds"):
        check(baseline(group([0.25, 0.75], metric="pruned_top1")), baseline(group([])), rules)


def test_a_floor_is_short(tmp_path: Path) -> None:
    """What reads it takes time with the square of its length."""
    with pytest.raises(ValueError, match="longer than 1000 characters"):
        GateTable.model_validate({"floors": ["retention >= 0.5 for a" + " " * 1000 + "b"]})
