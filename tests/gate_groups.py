"""Baselines of a few numbers, and what the gate says of one metric of one cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import ENVIRONMENT

from sgabench.gate.baseline import Baseline, Group, Spread
from sgabench.gate.check import check
from sgabench.gate.items import Item
from sgabench.suite.rules import GateTable

COUNTS: dict[str, Any] = {"classes": 10, "test_images": 1000}


def group(values: dict[str, Any], *, seeds: Any = None, keys: str = "k", **labels: Any) -> Group:
    """A cell (or, with ``pruner=None``, a trial) with these values."""
    cell: dict[str, Any] = {"pruner": "magnitude", "ratio": 0.5, "of": "weights"}
    if "pruner" in labels and labels["pruner"] is None:
        cell = dict(COUNTS)
    names: dict[str, Any] = {"dataset": "digits", "model": "resnet8", "optimizer": "adam", **cell}
    names |= {key: value for key, value in labels.items() if value is not None}
    n = len(next(iter(values.values())))
    chosen = tuple(range(n)) if seeds is None else tuple(seeds)
    metrics = {name: Spread.of(column) for name, column in values.items()}
    return Group(**names, seeds=chosen, keys=tuple(f"{keys}{seed}" for seed in chosen), metrics=metrics)


def baseline(*cells: Group, trials: tuple[Group, ...] | None = None, environment: Any = ENVIRONMENT) -> Baseline:
    """A baseline of these cells; the trials follow from them."""
    names = dict.fromkeys((cell.dataset, cell.model, cell.optimizer) for cell in cells)
    made = tuple(Group(dataset=d, model=m, optimizer=o, seeds=(), keys=(), metrics={}, **COUNTS) for d, m, o in names)
    return Baseline(suite="s", environments=(environment,), trials=made if trials is None else trials, cells=cells)


def compare(was: dict[str, Any], now: dict[str, Any], keys: str = "k", **rules: Any) -> Item:
    """The first item of one metric of one cell: of an accuracy, the test."""
    found = check(baseline(group(was)), baseline(group(now, keys=keys)), GateTable.model_validate(rules))
    assert {item.metric for item in found.items} == set(was)
    return found.items[0]


def edited(path: Path, edit: Callable[[Any], object]) -> Path:
    """The file at a path, its JSON changed."""
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    return path
