from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from study import EDGES, put_study
from support import variant

from sgabench.evidence.details import load_details
from sgabench.evidence.leaderboard import make_tables
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite


@pytest.fixture
def plan(tiny: Path) -> Plan:
    text = tiny.read_text()
    tiny.write_text(text[: text.index('[[optimizers]]\nname = "stoch')] + '[[pruners]]\nname = "magnitude"\n')
    return make_plan(load_suite(tiny), Path("data"))


@pytest.fixture
def store(tmp_path: Path, plan: Plan) -> Store:
    made = Store(tmp_path / "results", create=True)
    put_study(made, plan)
    return made


def records(store: Store, kind: str) -> list[Record]:
    return list(store.records(kind, detail=True))


def test_histories_are_averaged_over_seeds(store: Store, plan: Plan) -> None:
    training = load_details(store, make_tables(store, plan)).training
    loss = training[training["measure"] == "loss"].set_index("epoch")
    assert loss.loc[2, ["n", "mean", "least", "most"]].tolist() == [2, 2.0, 1.5, 2.5]  # 3 / 2 + seed
    assert set(training["measure"]) == {"loss", "top1"}


def test_weights_are_shares_of_all_weights(store: Store, plan: Plan) -> None:
    weights = load_details(store, make_tables(store, plan)).weights
    assert weights["share"].tolist() == [0.25, 0.25, 0.5]
    assert weights["low"].tolist() == EDGES[:-1]
    assert weights["n"].tolist() == [2, 2, 2]


def test_layers_are_averaged_over_seeds(store: Store, plan: Plan) -> None:
    first = records(store, "cell")[0]
    store.put(replace(first, detail={"layer_sparsity": {"layer10": 0.95, "layer2": 0.05, "<b>conv</b>": 0.25}}))
    details = load_details(store, make_tables(store, plan))
    found = details.layers.set_index("layer")["sparsity"].to_dict()
    assert found == pytest.approx({"layer10": (0.45 + 0.95) / 2, "layer2": 0.05, "<b>conv</b>": 0.25})
    assert details.layer_blocks == 1


def test_without_a_plan_what_only_shares_a_label_are_distinguished(store: Store, tiny: Path) -> None:
    put_study(store, make_plan(load_suite(variant(tiny, "epochs = 1", "epochs = 2")), Path("data")))
    details = load_details(store, make_tables(store))
    assert details.training["optimizer"].nunique() == 2
    assert set(details.training["n"]) == {2}
    assert details.layers["optimizer"].nunique() == 2
    assert set(details.training["optimizer"]) == set(details.layers["optimizer"])


def test_details_that_are_not_there_or_odd_are_left_out(store: Store, plan: Plan) -> None:
    trial, probe, cell = (records(store, kind)[0] for kind in ("trial", "probe", "cell"))
    store.put(replace(trial, detail={}))
    store.put(replace(cell, detail={"layer_sparsity": {"other": 0.5}}))
    for odd in (
        {"edges": EDGES, "all": {"count": 0, "histogram": None}},
        {"edges": EDGES, "all": "text"},
        {"numbers": [1]},
        {"edges": [0, 1, 2, 3, 4], "all": {"count": 4, "histogram": [1, 1, 1, 1]}},
    ):
        store.put(replace(probe, detail=odd))
        details = load_details(store, make_tables(store, plan))
        assert set(details.weights["n"]) == {1}
    assert set(details.training["n"]) == {1}


def test_a_failed_trial_has_no_details(store: Store, plan: Plan) -> None:
    for kind in ("trial", "probe", "cell"):
        for record in records(store, kind):
            store.put(replace(record, status="failed", result={}, detail={}, error="no"))
    details = load_details(store, make_tables(store, plan))
    assert details.training.empty
    assert details.weights.empty
    assert details.layers.empty
