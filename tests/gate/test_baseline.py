"""The baseline's file: what is written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_groups import baseline, edited, group
from support import DENSE, PRUNED, variant

from sgabench.errors import InputError
from sgabench.evidence.leaderboard import make_tables
from sgabench.gate.baseline import as_json, freeze, read_baseline, write_baseline
from sgabench.gate.check import check
from sgabench.gate.measured import measured
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite
from sgabench.suite.rules import GateTable


def test_a_baseline_is_a_line_for_each_trial_and_cell_and_reads_back(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    lines = frozen.read_text().splitlines()
    assert sum('"pruner"' in line for line in lines) == 2
    assert sum('"dense_top1"' in line for line in lines) == 2
    assert json.loads(frozen.read_text())["format"] == 2
    read = read_baseline(frozen)
    assert as_json(read) == frozen.read_text()
    (adam,) = [cell for cell in read.cells if cell.optimizer == "adam"]
    assert adam.metrics["pruned_top1"].values == (PRUNED["adam", 0], PRUNED["adam", 1])
    assert adam.metrics["retention"].mean == pytest.approx((0.4 / 0.8 + 0.6 / 0.9) / 2, abs=1e-6)
    assert adam.metrics["sparsity"].values == (0.5, 0.5)
    assert read.trials[0].metrics["dense_top1"].std == pytest.approx(np.std([0.8, 0.9], ddof=1), abs=1e-6)
    assert read.trials[0].keys == tuple(t.key[:12] for t in plan.trials if t.optimizer.label == "adam")
    assert DENSE["adam", 1] == read.trials[0].metrics["dense_top1"].values[1]


def test_a_baseline_does_not_depend_on_the_order_of_the_suite(tiny: Path, tmp_path: Path, frozen: Path) -> None:
    turned = make_plan(load_suite(variant(tiny, "seeds = [0, 1]", "seeds = [1, 0]")), Path("data"))
    assert as_json(measured(turned, tmp_path / "was")) == frozen.read_text()


BAD: list[tuple[str, Callable[[Any], object]]] = [
    ("of format 1, this sgabench reads 2; make a new one with sgabench baseline", lambda data: data.update(format=1)),
    ("has an accuracy and its trial lacks classes or test_images", lambda data: data["trials"][0].pop("classes")),
    ("not a baseline", lambda data: data.pop("suite")),
    ("cells.0.metrics.retention: n is 3, but there are 2", lambda d: d["cells"][0]["metrics"]["retention"].update(n=3)),
    ("is not the mean of its values", lambda d: d["cells"][0]["metrics"]["retention"].update(mean=0.9)),
    ("cells.0.seeds.0", lambda data: data["cells"][0].update(seeds=["0", 1])),
    ("seeds must increase", lambda data: data["cells"][0].update(seeds=[1, 0])),
    ("unknown metric 'accuracy'", lambda d: d["cells"][0]["metrics"].update(accuracy={"mean": 1.0, "n": 2})),
    ("appears twice", lambda data: data["cells"].append(data["cells"][0])),
    ("trials.0.model: is required", lambda data: data["trials"][0].pop("model")),
    ("must be printable text", lambda data: data["cells"][0].update(optimizer="\x1b[31m")),
    ("pruner, ratio and of belong together", lambda data: data["cells"][0].pop("ratio")),
    ("cells: must be a list", lambda data: data.update(cells="x")),
    ("cells.0.metrics.retention.n", lambda d: d["cells"][0]["metrics"].update(retention={"mean": 1.0, "n": 10**9})),
]


@pytest.mark.parametrize(("message", "edit"), BAD, ids=[case[0] for case in BAD])
def test_a_baseline_that_is_wrong_is_refused_in_one_line(
    frozen: Path, message: str, edit: Callable[[Any], Any]
) -> None:
    with pytest.raises(InputError) as refusal:
        read_baseline(edited(frozen, edit))
    assert str(refusal.value).startswith(f"--baseline {frozen}: ")
    assert message in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "NaN", "[" * 100_000, '{"format": 2, "suite": Infinity}'])
def test_what_is_no_baseline_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"not JSON|not a baseline"):
        read_baseline(path)
    with pytest.raises(InputError, match="make one with sgabench baseline"):
        read_baseline(tmp_path / "none.json")


def test_a_baseline_that_was_written_by_hand_may_leave_out_the_point_of_whole_numbers(frozen: Path) -> None:
    whole = edited(frozen, lambda data: data["cells"][0]["metrics"].update(sparsity={"mean": 1, "n": 2}))
    assert read_baseline(whole).cells[0].metrics["sparsity"].values == (1.0, 1.0)


def test_a_plan_without_records_freezes_to_what_is_lacking(plan: Plan, tmp_path: Path) -> None:
    with Store(tmp_path / "none") as store:
        empty = freeze(make_tables(store, plan), "tiny")
    assert {tuple(group.lacking.values()) for group in empty.groups} == {("missing", "missing")}
    assert replace(check(empty, empty, GateTable()), notes=()).exit_code == 3


def test_a_pipe_is_no_baseline(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        read_baseline(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("metric", "values"), [("retention", [-3.0, 0.5]), ("pruned_top1", [0.5, 1.5]), ("bytes", [1e300, 1e300])]
)
def test_numbers_that_cannot_be_are_refused(tmp_path: Path, metric: str, values: list[float]) -> None:
    path = tmp_path / "b.json"
    write_baseline(baseline(group({"retention": [0.25, 0.75]})), path)
    data = json.loads(path.read_text())
    data["cells"][0]["metrics"] = {metric: {"mean": sum(values) / 2, "std": 0.0, "n": 2, "values": values}}
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=str(path)):
        read_baseline(path)
