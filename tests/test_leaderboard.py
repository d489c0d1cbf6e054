from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import variant

from sgabench.leaderboard import make_tables
from sgabench.plan import Plan, make_plan
from sgabench.store import Record, Store
from sgabench.suite import load_suite

ENVIRONMENT = {"device": "cpu", "cpu": "x", "cores": 2, "threads": 1, "python": "3", "packages": {"torch": "2"}}
DENSE = {("adam", 0): 0.8, ("adam", 1): 0.9, ("stochgradadam", 0): 0.75, ("stochgradadam", 1): 0.85}
PRUNED = {("adam", 0): 0.4, ("adam", 1): 0.6, ("stochgradadam", 0): 0.6, ("stochgradadam", 1): 0.7}


def fill(store: Store, plan: Plan, **changes: dict[str, Any]) -> None:
    """Store a record for every trial and cell, with known numbers; ``changes`` by trial name."""
    for trial in plan.trials:
        who = (trial.optimizer.name, trial.seed)
        change = changes.get(f"{who[0]}_{who[1]}", {})
        record = Record(trial.key, "trial", None, "done", trial.labels(), trial.description(), ENVIRONMENT)
        record = replace(record, result={"top1": DENSE[who], "loss": 1.0, "images_per_s": 100.0})
        if change.get("trial") == "missing":
            continue
        if "trial" in change:
            record = replace(record, status=change["trial"], result={}, error="it\nbroke")
            store.put(record)
            continue
        store.put(record)
        for cell in trial.cells:
            labels, description = trial.labels(cell), cell.description()
            result = {"top1": PRUNED[who], "loss": 2.0, "retention": PRUNED[who] / DENSE[who], "sparsity": 0.5}
            result |= {"compression_ratio": 2.0, "theoretical_speedup": 1.5, "measured_speedup": 1.0}
            done = Record(cell.key, "cell", trial.key, "done", labels, description, ENVIRONMENT, result)
            if change.get("cell"):
                done = replace(done, status=change["cell"], result={}, error="ValueError: no")
            store.put(done)


@pytest.fixture
def plan(tiny: Path) -> Plan:
    return make_plan(load_suite(tiny), Path("data"))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / "results", create=True) as store:
        yield store


def test_means_and_deviations_agree_with_a_hand_calculation(store: Store, plan: Plan) -> None:
    fill(store, plan)
    board = make_tables(store, plan).leaderboard.set_index("optimizer")
    adam = board.loc["adam"]
    assert (adam["n"], adam["of"], adam["ratio"], adam["pruner"]) == (2, "weights", 0.5, "magnitude")
    assert adam["dense_top1_mean"] == pytest.approx(0.85)
    assert adam["dense_top1_std"] == pytest.approx(0.0707107, abs=1e-6)  # sqrt((0.05² + 0.05²) / 1)
    assert adam["pruned_top1_mean"] == pytest.approx(0.5)
    assert adam["pruned_top1_std"] == pytest.approx(0.1414214, abs=1e-6)
    assert adam["retention_mean"] == pytest.approx((0.5 + 0.6 / 0.9) / 2)
    assert adam["measured_speedup"] == 1.0


def test_the_best_pruned_accuracy_comes_first(store: Store, plan: Plan) -> None:
    fill(store, plan)
    assert list(make_tables(store, plan).leaderboard["optimizer"]) == ["stochgradadam", "adam"]


def test_ratios_and_pruners_keep_the_order_of_the_suite(store: Store, tiny: Path) -> None:
    variant(tiny, "ratios = [0.5]", "ratios = [0.8, 0.2]")
    tiny.write_text(tiny.read_text() + '\n[[pruners]]\nname = "random"\n')
    plan = make_plan(load_suite(tiny), Path("data"))
    fill(store, plan)
    board = make_tables(store, plan).leaderboard
    found = list(board[["pruner", "ratio"]].drop_duplicates().itertuples(index=False, name=None))
    assert found == [("magnitude", 0.2), ("magnitude", 0.8), ("random", 0.2), ("random", 0.8)]


def test_one_seed_has_no_deviation(store: Store, tiny: Path) -> None:
    plan = make_plan(load_suite(variant(tiny, "seeds = [0, 1]", "seeds = [0]")), Path("data"))
    fill(store, plan)
    board = make_tables(store, plan).leaderboard
    assert board["n"].tolist() == [1, 1]
    assert board["pruned_top1_std"].isna().all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trial": "missing"}, "1 missing"),
        ({"trial": "diverged"}, "1 diverged"),
        ({"trial": "failed"}, "1 failed"),
        ({"cell": "failed"}, "1 failed"),
    ],
    ids=["missing", "diverged", "failed", "failed cell"],
)
def test_a_seed_without_a_result_is_counted_and_named(
    store: Store, plan: Plan, change: dict[str, str], told: str
) -> None:
    fill(store, plan, adam_1=change)
    tables = make_tables(store, plan)
    adam = tables.leaderboard.set_index("optimizer").loc["adam"]
    assert (adam["n"], adam["incomplete"]) == (1, told)
    assert adam["pruned_top1_mean"] == pytest.approx(0.4)
    assert len(tables.failures) == (0 if "missing" in told else 1)
    assert len(tables.cells) == 4


def test_an_optimizer_that_always_diverges_is_still_there(store: Store, plan: Plan) -> None:
    fill(store, plan, adam_0={"trial": "diverged"}, adam_1={"trial": "diverged"})
    board = make_tables(store, plan).leaderboard
    assert list(board["optimizer"]) == ["stochgradadam", "adam"]
    assert board["n"].tolist() == [2, 0]
    assert board["incomplete"].tolist() == ["", "0 diverged, 1 diverged"]


def test_a_failure_is_told_with_its_last_line(store: Store, plan: Plan) -> None:
    fill(store, plan, adam_1={"cell": "failed"})
    (failure,) = make_tables(store, plan).failures.to_dict("records")
    assert failure["name"] == "digits/resnet8/adam/1/magnitude/0.5"
    assert failure["error"] == "ValueError: no"


def test_cells_have_everything_of_their_trial_and_themselves(store: Store, plan: Plan) -> None:
    fill(store, plan)
    cells = make_tables(store, plan).cells
    row = cells[(cells["optimizer"] == "adam") & (cells["seed"] == 1)].iloc[0]
    assert (row["dense_top1"], row["pruned_top1"], row["dense_loss"], row["pruned_loss"]) == (0.9, 0.6, 1.0, 2.0)
    assert row["status"] == "done"
    assert row["key"] in {cell.key for _, cell in plan.cells()}


def test_without_a_plan_everything_stored_is_shown(store: Store, plan: Plan) -> None:
    fill(store, plan, adam_1={"trial": "diverged"})
    tables = make_tables(store)
    assert len(tables.trials) == 4
    assert len(tables.cells) == 3
    assert len(tables.environments) == 1
    assert len(tables.failures) == 1


def test_what_only_shares_a_label_is_never_averaged(store: Store, tiny: Path, plan: Plan) -> None:
    fill(store, plan)
    other = make_plan(load_suite(variant(tiny, "epochs = 1", "epochs = 2")), Path("data"))
    fill(store, other)
    assert make_tables(store, other).leaderboard["n"].tolist() == [2, 2]
    everything = make_tables(store).leaderboard
    assert everything["n"].tolist() == [2, 2, 2, 2]
    assert everything["optimizer"].nunique() == 4


def test_a_plan_without_a_record_is_all_missing(store: Store, plan: Plan) -> None:
    tables = make_tables(store, plan)
    assert tables.leaderboard["n"].tolist() == [0, 0]
    assert tables.leaderboard["pruned_top1_mean"].isna().all()
    assert set(tables.cells["status"]) == {"missing"}


def test_an_empty_store_gives_empty_tables(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        tables = make_tables(store)
    assert tables.leaderboard.empty
    assert isinstance(tables.cells, pd.DataFrame)
