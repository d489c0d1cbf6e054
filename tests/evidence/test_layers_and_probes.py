"""Layers and the numbers of probes, from a store, over seeds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import ENVIRONMENT

from sgabench.evidence.layers import layer_table
from sgabench.evidence.leaderboard import Tables, make_tables
from sgabench.store.store import Kind, Record, Store
from sgabench.suite.plan import CellPlan, Plan, ProbePlan, TrialPlan, content_key

DETAIL = {"layer_sparsity": {"fc2": 0.5, "fc10": 0.25}, "layer_channels": {"fc2": 8, "fc10": 4}}


def put(store: Store, plan: TrialPlan, cell: CellPlan | None = None, **detail: Any) -> None:
    kind: Kind = "trial" if cell is None else "cell"
    key, parent = (plan.key, None) if cell is None else (cell.key, plan.key)
    store.put(Record(key, kind, parent, "done", plan.labels(cell), {}, ENVIRONMENT, {"top1": 0.5}, detail))


def put_probe(store: Store, trial: TrialPlan, name: str, subject: str, **numbers: float) -> None:
    store.put(
        Record(
            content_key([name, subject]),
            "probe",
            subject,
            "done",
            {**trial.labels(), "probe": name},
            {},
            ENVIRONMENT,
            numbers,
        )
    )


@pytest.fixture
def tables(store: Store, plan: Plan) -> Tables:
    """Two seeds of adam are stored, each with a cell and two probes."""
    for seed, trial in enumerate(plan.trials[:2]):
        put(store, trial, **DETAIL)
        scaled = {"layer_sparsity": {"fc2": 0.6 + 0.2 * seed, "fc10": 0.9}, "layer_channels": {"fc2": 7, "fc10": 4}}
        put(store, trial, trial.cells[0], **scaled)
        put_probe(store, trial, "norm", trial.key, length=1.0 + 2 * seed)
        put_probe(store, trial, "norm", trial.cells[0].key, length=5.0 + 2 * seed, zeros=7)
    return make_tables(store)


def test_layers_are_means_over_seeds_in_the_order_of_their_numbers(store: Store, tables: Tables) -> None:
    layers = layer_table(store, tables)
    assert layers["layer"].tolist() == ["fc2", "fc10"] * 2
    assert layers["pruner"].tolist() == ["", "", "magnitude", "magnitude"]
    assert layers["sparsity"].tolist() == pytest.approx([0.5, 0.25, 0.7, 0.9])
    assert layers["channels"].tolist() == [8, 4, 7, 4]
    assert set(layers["n"]) == {2}


def test_records_without_channels_are_shown_without(store: Store, plan: Plan) -> None:
    put(store, plan.trials[0], layer_sparsity={"fc": 0.5})
    layers = layer_table(store, make_tables(store))
    assert layers["sparsity"].tolist() == [0.5]
    assert layers["channels"].isna().all()


def test_numbers_of_probes_are_means_over_seeds(tables: Tables) -> None:
    assert tables.probes is not None
    rows = tables.probes.set_index(["number", "pruner"])
    assert rows["mean"].to_dict() == {("length", ""): 2.0, ("length", "magnitude"): 6.0, ("zeros", "magnitude"): 7.0}
    assert rows["std"].tolist() == pytest.approx([math.sqrt(2), math.sqrt(2), 0])
    assert set(rows["n"]) == {2}
    assert rows.loc[("zeros", "magnitude"), "ratio"] == 0.5


def test_a_plan_shows_the_probes_that_it_asks_for_and_no_others(store: Store, tables: Tables, plan: Plan) -> None:
    found = make_tables(store, plan).probes
    assert found is not None
    assert found.empty  # their keys are none of the plan's
    trial = plan.trials[0]
    (probe,) = trial.probes
    assert isinstance(probe, ProbePlan)
    labels = {**trial.labels(), "probe": "weights"}
    store.put(Record(probe.key, "probe", trial.key, "done", labels, {}, ENVIRONMENT, {"count": 3}))
    found = make_tables(store, plan).probes
    assert found is not None
    assert found[["probe", "number", "mean"]].to_numpy().tolist() == [["weights", "count", 3.0]]


def test_nothing_stored_has_no_layers_and_no_probes(tmp_path: Path) -> None:
    with Store(tmp_path) as empty:
        tables = make_tables(empty)
        assert layer_table(empty, tables).empty
        assert isinstance(tables.probes, pd.DataFrame)
        assert tables.probes.empty
