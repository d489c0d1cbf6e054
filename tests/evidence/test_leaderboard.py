from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from support import fill, variant

from sgabench.errors import InputError
from sgabench.evidence.leaderboard import make_tables
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite


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
        ({"trial": "missing"}, "missing 1"),
        ({"trial": "diverged"}, "diverged 1"),
        ({"trial": "failed"}, "failed 1"),
        ({"cell": "failed"}, "failed 1"),
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
    assert board["incomplete"].tolist() == ["", "diverged 0, 1"]


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
    assert tables.cells["status"].tolist().count("done") == 3
    assert tables.leaderboard.set_index("optimizer").loc["adam", ["n", "incomplete"]].tolist() == [1, "diverged 1"]
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


def test_other_measurements_are_never_averaged_with_the_first(store: Store, tiny: Path, plan: Plan) -> None:
    fill(store, plan)
    other = make_plan(load_suite(variant(tiny, "min_run_time = 0.001", "min_run_time = 0.002")), Path("data"))
    fill(store, other)
    everything = make_tables(store)
    assert len(everything.trials) == 4
    assert everything.leaderboard["n"].tolist() == [2, 2, 2, 2]
    assert everything.leaderboard["pruner"].nunique() == 2


def test_the_environments_of_cells_are_named_too(store: Store, plan: Plan) -> None:
    fill(store, plan)
    for record in list(store.records("cell")):
        store.put(replace(record, environment={**record.environment, "cpu": "another"}))
    assert {environment["cpu"] for environment in make_tables(store, plan).environments} == {"x", "another"}


def test_an_empty_store_gives_empty_tables(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        tables = make_tables(store)
    assert tables.leaderboard.empty
    assert isinstance(tables.cells, pd.DataFrame)


def test_a_network_that_guesses_is_marked(store: Store, plan: Plan) -> None:
    fill(store, plan)
    trial = plan.trials[0]
    (record,) = store.records("trial", [trial.key])
    guessing = {**record.result, "top1": 0.12, "classes": 10, "test_images": 360}
    store.put(replace(record, result=guessing))
    trials = make_tables(store, plan).trials.set_index("key")
    assert trials["at_chance"].to_dict() == {t.key: t is trial for t in plan.trials}


def test_the_first_optimizer_is_the_reference_unless_another_is_named(store: Store, plan: Plan) -> None:
    fill(store, plan)
    tables = make_tables(store, plan)
    assert tables.reference == "adam"
    assert tables.leaderboard.set_index("optimizer")["outcome"].to_dict() == {
        "adam": "reference",
        "stochgradadam": "few",
    }
    other = make_tables(store, plan, reference="stochgradadam").leaderboard.set_index("optimizer")
    assert other["outcome"].to_dict() == {"adam": "few", "stochgradadam": "reference"}
    assert (
        other.loc["adam", "difference"] == -tables.leaderboard.set_index("optimizer").loc["stochgradadam", "difference"]
    )
    with pytest.raises(InputError, match="--reference adm: no optimizer of that label; did you mean 'adam'"):
        make_tables(store, plan, reference="adm")


def test_trainings_of_one_label_and_different_settings_are_never_mixed(store: Store, tiny: Path) -> None:
    fill(store, make_plan(load_suite(tiny), Path("data")))
    variant(tiny, "epochs = 1", "epochs = 2")
    fill(store, make_plan(load_suite(variant(tiny, "ratios = [0.5]", "ratios = [0.8]")), Path("data")))
    tables = make_tables(store)
    assert tables.trials.groupby("optimizer").size().tolist() == [2, 2, 2, 2]
    assert tables.cells.groupby("optimizer")["ratio"].nunique().tolist() == [1, 1, 1, 1]
    assert not tables.cells.duplicated(["optimizer", "pruner", "ratio", "seed"]).any()
    assert tables.reference.startswith("adam [")
