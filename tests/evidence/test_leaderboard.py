from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from support import ENVIRONMENT, fill, variant

from sgabench.errors import InputError
from sgabench.evidence.leaderboard import make_tables
from sgabench.report.markdown import markdown
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan, make_plan, select
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
    ("change", "incomplete"),
    [
        ({"trial": "missing"}, "missing 1"),
        ({"trial": "diverged"}, "diverged 1"),
        ({"trial": "failed"}, "failed 1"),
        ({"cell": "failed"}, "failed 1"),
    ],
    ids=["missing", "diverged", "failed", "failed cell"],
)
def test_a_seed_without_a_result_is_counted_and_named(
    store: Store, plan: Plan, change: dict[str, str], incomplete: str
) -> None:
    fill(store, plan, adam_1=change)
    tables = make_tables(store, plan)
    adam = tables.leaderboard.set_index("optimizer").loc["adam"]
    diverged = incomplete.startswith("diverged")  # counts as guessing among ten classes
    assert (adam["n"], adam["trained"], adam["incomplete"]) == (1 + diverged, 1, incomplete)
    assert adam["pruned_top1_mean"] == pytest.approx((0.4 + 0.1) / 2 if diverged else 0.4)
    assert len(tables.failures) == (0 if "missing" in incomplete else 1)
    assert len(tables.cells) == 4


def test_an_optimizer_that_always_diverges_is_still_there(store: Store, plan: Plan) -> None:
    fill(store, plan, adam_0={"trial": "diverged"}, adam_1={"trial": "diverged"})
    board = make_tables(store, plan).leaderboard
    assert list(board["optimizer"]) == ["stochgradadam", "adam"]
    assert board["n"].tolist() == [2, 2]
    assert board["trained"].tolist() == [2, 0]
    assert board["pruned_top1_mean"].tolist()[1] == pytest.approx(0.1)
    assert board["retention_mean"].tolist()[1] == 0  # what learned nothing keeps nothing
    assert board["trained_high"].tolist()[1] == pytest.approx(1 - 0.025**0.5)  # Clopper and Pearson
    assert board["incomplete"].tolist() == ["", "diverged 0, 1"]


def test_a_failure_is_reported_with_its_last_line(store: Store, plan: Plan) -> None:
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
    assert tables.leaderboard.set_index("optimizer").loc["adam", ["n", "trained", "incomplete"]].tolist() == [
        2,
        1,
        "diverged 1",
    ]
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
    with pytest.raises(InputError, match="--reference adm: no optimizer with that label; did you mean 'adam'"):
        make_tables(store, plan, reference="adm")


def test_trainings_of_one_label_and_different_settings_are_never_mixed(store: Store, tiny: Path) -> None:
    fill(store, make_plan(load_suite(tiny), Path("data")))
    variant(tiny, "epochs = 1", "epochs = 2")
    fill(store, make_plan(load_suite(variant(tiny, "ratios = [0.5]", "ratios = [0.8]")), Path("data")))
    tables = make_tables(store)
    assert tables.trials.groupby("optimizer").size().tolist() == [2, 2, 2, 2]
    assert tables.cells.groupby("optimizer")["ratio"].nunique().tolist() == [1, 1, 1, 1]
    assert not tables.cells.duplicated(["optimizer", "pruner", "ratio", "seed"]).any()
    assert tables.reference.startswith("adam (")


STUDY = """
seeds = [0, 1, 2, 3, 4]
ratios = [0.5]
datasets = [{name = "digits"}]
models = [{name = "resnet8"}]
optimizers = [{name = "adam"}, {name = "adam", label = "other", lr = 0.02}]
pruners = [{name = "magnitude"}]
"""


def put_top1(store: Store, plan: Plan, top1: dict[str, list[float | None]], **of_cells: float | str) -> None:
    """A record for every trial and cell; None: it is not there."""
    for trial in plan.trials:
        pruned = top1[trial.optimizer.label][trial.seed]
        dense = {"top1": 0.95, "loss": 1.0, "classes": 10, "test_images": 360, "seconds": 30.0}
        store.put(Record(trial.key, "trial", None, "done", trial.labels(), trial.description(), ENVIRONMENT, dense))
        for cell in trial.cells:
            if pruned is not None:
                result = {"top1": pruned, "loss": 1.0, **of_cells}
                labels, about = trial.labels(cell), cell.description()
                store.put(Record(cell.key, "cell", trial.key, "done", labels, about, ENVIRONMENT, result))


def five_seeds(tmp_path: Path, change: tuple[str, str] = ("", "")) -> Plan:
    path = tmp_path / "five.toml"
    path.write_text(STUDY.replace(*change))
    return make_plan(load_suite(path), Path("data"))


def test_better_is_never_said_of_fewer_seeds(store: Store, tmp_path: Path) -> None:
    plan = five_seeds(tmp_path)
    top1: dict[str, list[float | None]] = {"adam": [0.5, 0.52, 0.48, 0.51, 0.5], "other": [0.9, 0.91, 0.89, 0.9, 0.92]}
    put_top1(store, plan, top1)
    row = make_tables(store, plan).leaderboard.set_index("optimizer").loc["other"]
    assert row["outcome"] == "better"
    assert 0 < row["difference_low"] < 0.4 < row["difference_high"]


def test_a_seed_that_failed_takes_the_verdict_with_it(store: Store, tmp_path: Path) -> None:
    plan = five_seeds(tmp_path)
    put_top1(store, plan, {"adam": [0.5, 0.52, 0.48, 0.51, 0.5], "other": [0.9, 0.91, 0.89, 0.9, None]})
    row = make_tables(store, plan).leaderboard.set_index("optimizer").loc["other"]
    assert row["outcome"] == "fewer"
    assert row["difference_low"] <= 0 <= row["difference_high"]
    assert "fewer seeds" in row["verdict"]


def test_masked_networks_have_no_speed(store: Store, tmp_path: Path) -> None:
    top1 = {"adam": [0.5] * 5, "other": [0.5] * 5}
    masked = {"macs": 100.0, "nonzero_macs": 50.0, "theoretical_speedup": 2.0}
    put_top1(store, five_seeds(tmp_path), top1, measured_speedup=5.9, **masked)
    board = make_tables(store, five_seeds(tmp_path)).leaderboard
    assert board["measured_speedup"].isna().all()


@pytest.mark.parametrize("kernels", [False, True])
def test_a_pattern_has_a_speed_on_kernels_for_it_only(kernels: bool, store: Store, tmp_path: Path) -> None:
    top1: dict[str, list[float | None]] = {"adam": [0.5] * 5, "other": [0.5] * 5}
    speed: dict[str, float | str] = {"sparse_layers": 2} if kernels else {"pattern_only": "no kernels on cpu"}
    masked = {"macs": 100.0, "nonzero_macs": 50.0, "theoretical_speedup": 2.0, "measured_speedup": 1.5}
    put_top1(store, five_seeds(tmp_path), top1, **masked, **speed)
    tables = make_tables(store, five_seeds(tmp_path))
    assert set(tables.leaderboard["no_speed"]) == {"" if kernels else "pattern only"}
    assert tables.leaderboard["measured_speedup"].isna().all() != kernels
    for text in (markdown(tables), tables.leaderboard.to_csv()):
        assert ("pattern only" in text) != kernels


def test_the_speed_is_a_median(store: Store, tmp_path: Path) -> None:
    plan = five_seeds(tmp_path)
    smaller = {"macs": 50.0, "nonzero_macs": 50.0, "theoretical_speedup": 2.0}
    put_top1(store, plan, {"adam": [0.5] * 5, "other": [0.5] * 5}, measured_speedup=1.5, **smaller)
    for record in list(store.records("cell"))[:2]:
        store.put(replace(record, result={**record.result, "measured_speedup": 90.0}))
    assert set(make_tables(store, plan).leaderboard["measured_speedup"]) == {1.5}


def test_a_target_that_was_not_reached_is_marked_and_not_compared(store: Store, tmp_path: Path) -> None:
    plan = five_seeds(tmp_path, ('pruners = [{name = "magnitude"}]', 'pruners = [{name = "structured", of = "macs"}]'))
    top1: dict[str, list[float | None]] = {"adam": [0.5, 0.52, 0.48, 0.51, 0.5], "other": [0.9, 0.91, 0.89, 0.9, 0.92]}
    put_top1(store, plan, top1, theoretical_speedup=1 / (1 - 0.4), macs=60.0, nonzero_macs=60.0)
    board = make_tables(store, plan).leaderboard
    assert board["missed_target"].all()
    assert set(board["outcome"]) == {"reference", "none"}


def test_only_a_part_of_a_plan_may_lack_the_reference(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "five.toml"
    path.write_text(STUDY + '\n[question]\nreference = "adam"\n')
    plan = make_plan(load_suite(path), Path("data"))
    put_top1(store, plan, {"adam": [0.5] * 5, "other": [0.6] * 5})
    assert make_tables(store, select(plan, "*/other/*")).reference == "other"


def test_a_suite_with_a_resolution_of_its_own_leads_by_that(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "five.toml"
    three = STUDY.replace("lr = 0.02}", 'lr = 0.02}, {name = "adam", label = "third", lr = 0.03}')
    near: dict[str, list[float | None]] = {"adam": [0.5, 0.51, 0.5, 0.49, 0.5]}
    near["third"] = [0.51, 0.502, 0.506, 0.484, 0.506]
    near["other"] = [0.58, 0.59, 0.581, 0.57, 0.58]
    found = {}
    for resolution in (2, 10):
        path.write_text(three + f"\n[question]\nresolution = {resolution}\n")
        plan = make_plan(load_suite(path), Path("data"))
        put_top1(store, plan, near)
        found[resolution] = make_tables(store, plan).leaderboard.set_index("optimizer")
    assert found[2]["outcome"].to_dict() == found[10]["outcome"].to_dict()
    assert found[2]["outcome"].to_dict() == {"other": "better", "adam": "reference", "third": "same"}
    # Who is the same within 10 points as the reference may be as good as who is better by 8.
    assert (found[2]["leading"]["third"], found[10]["leading"]["third"]) == (False, True)


def test_optimizers_with_too_few_seeds_for_a_verdict_do_not_lead(store: Store, tmp_path: Path) -> None:
    plan = five_seeds(tmp_path, ("lr = 0.02}", 'lr = 0.02}, {name = "adam", label = "third", lr = 0.03}'))
    top1: dict[str, list[float | None]] = {"adam": [0.5, 0.52, 0.48, 0.51, 0.5], "other": [0.9, 0.91, 0.89, 0.9, 0.92]}
    put_top1(store, plan, {**top1, "third": [0.95, 0.96, None, None, None]})
    board = make_tables(store, plan).leaderboard.set_index("optimizer")
    assert board["outcome"].to_dict() == {"adam": "reference", "other": "better", "third": "few"}
    assert board["leading"].to_dict() == {"adam": False, "other": True, "third": False}


def test_all_pairs_leave_the_leaderboard_to_the_reference(store: Store, tmp_path: Path) -> None:
    plan = five_seeds(tmp_path)
    put_top1(store, plan, {"adam": [0.5, 0.52, 0.48, 0.51, 0.5], "other": [0.9, 0.91, 0.89, 0.9, 0.92]})
    one, every = (
        make_tables(store, plan, reference="other", pairs=pairs).leaderboard for pairs in ("reference", "all")
    )
    pd.testing.assert_frame_equal(one, every)
