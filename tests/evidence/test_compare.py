from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from support import fill

from sgabench.errors import InputError
from sgabench.evidence.comparison import DENSE
from sgabench.evidence.folders import folder_names, read, side_by_side
from sgabench.report.compare import render_comparison
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite


@pytest.fixture
def folders(tmp_path: Path, plan: Plan) -> tuple[Path, Path]:
    """Two results folders with the same records."""
    found = tmp_path / "old", tmp_path / "new"
    for folder in found:
        with Store(folder, create=True) as store:
            fill(store, plan)
    return found


def rows(folders: tuple[Path, Path]) -> pd.DataFrame:
    tables = read(folders[0], None), read(folders[1], None)
    return side_by_side(*tables, ("old", "new")).set_index(["optimizer", "pruner"])


def worsen(folder: Path, by: float) -> None:
    """Lower every pruned accuracy of Adam."""
    with Store(folder, create=True) as store:
        for record in list(store.records("cell")):
            if record.labels["optimizer"] == "adam":
                top1 = record.result["top1"] - by - 0.001 * record.labels["seed"]
                store.put(replace(record, result={**record.result, "top1": top1}))


def test_the_same_records_are_identical(folders: tuple[Path, Path]) -> None:
    found = rows(folders)
    assert set(found["verdict"]) == {"identical"}
    assert list(found.index) == [
        ("adam", DENSE),
        ("stochgradadam", DENSE),
        ("adam", "magnitude"),
        ("stochgradadam", "magnitude"),
    ]
    assert found.loc[("adam", DENSE), ["first_n", "first_mean", "second_mean"]].tolist() == pytest.approx(
        [2, 0.85, 0.85]
    )


def more_seeds(folder: Path, plan: Plan, seeds: int) -> None:
    """The records of the first seed again, for others."""
    with Store(folder, create=True) as store:
        trials = {record.key: record for record in store.records("trial")}
        for record in [*trials.values(), *store.records("cell")]:
            trial = trials.get(record.parent or record.key)
            if trial is None or trial.labels["seed"]:
                continue
            for seed in range(2, seeds):
                other = f"{seed:02d}{record.key[2:]}"
                parent = record.parent and f"{seed:02d}{record.parent[2:]}"
                store.put(replace(record, key=other, parent=parent, labels={**record.labels, "seed": seed}))


def test_what_became_worse_is_reported(folders: tuple[Path, Path], plan: Plan) -> None:
    for folder in folders:
        more_seeds(folder, plan, 5)
    worsen(folders[1], 0.2)
    found = rows(folders)
    worse = found.loc[("adam", "magnitude")]
    assert worse["difference"] == pytest.approx(-0.202)
    assert worse["outcome"] == "worse"
    assert worse["verdict"].startswith("worse than old by 20.2 points (")
    assert worse["second_mean"] - worse["first_mean"] == pytest.approx(worse["difference"])
    assert found.loc[("stochgradadam", "magnitude"), "verdict"] == "identical"


def test_means_are_over_the_seeds_that_both_have(folders: tuple[Path, Path], plan: Plan) -> None:
    more_seeds(folders[1], plan, 5)
    found = rows(folders)
    assert found.loc[("adam", "magnitude"), ["first_n", "second_n", "n_paired"]].tolist() == [2, 5, 2]
    assert (found["first_mean"] == found["second_mean"]).all()
    assert set(found["verdict"]) == {"identical"}


def test_of_dense_networks_too_the_seeds_that_both_have_are_counted(tmp_path: Path, plan: Plan) -> None:
    first = replace(plan, trials=tuple(trial for trial in plan.trials if trial.seed == 0))
    for folder, of in (("old", plan), ("new", first)):
        with Store(tmp_path / folder, create=True) as store:
            fill(store, of)
    more_seeds(tmp_path / "new", plan, 5)
    found = rows((tmp_path / "old", tmp_path / "new"))
    assert found.loc[("adam", DENSE), ["first_n", "second_n", "n_paired"]].tolist() == [2, 4, 1]
    dense = read(tmp_path / "old", replace(plan, trials=tuple(replace(t, cells=()) for t in plan.trials)))
    alone = side_by_side(dense, dense, ("a", "b"))
    assert alone[["n_paired", "verdict"]].drop_duplicates().values.tolist() == [[2, "identical"]]


def test_equal_folders_have_no_changes_and_the_summary_says_so(folders: tuple[Path, Path]) -> None:
    tables = read(folders[0], None), read(folders[1], None)
    compared = side_by_side(*tables, ("old", "new"))
    text = render_comparison(compared, ("old", "new"), tables, "markdown", changed=True)
    assert "new compared with old: 4 the same." in text


def test_what_one_side_lacks_is_reported(folders: tuple[Path, Path], plan: Plan) -> None:
    fewer = replace(plan, trials=tuple(t for t in plan.trials if t.optimizer.name == "adam"))
    with Store(folders[0]) as old, Store(folders[1]) as new:
        from sgabench.evidence.leaderboard import make_tables

        found = side_by_side(make_tables(old, fewer), make_tables(new, plan), ("old", "new"))
    assert dict(zip(found["optimizer"], found["verdict"], strict=True)) == {
        "adam": "identical",
        "stochgradadam": "only in new",
    }


def test_other_settings_under_the_same_label_are_reported(tmp_path: Path, tiny: Path, plan: Plan) -> None:
    other = tmp_path / "other.toml"
    other.write_text(tiny.read_text().replace("epochs = 1", "epochs = 2"))
    for folder, of_suite in (("old", plan), ("new", make_plan(load_suite(other), Path("data")))):
        with Store(tmp_path / folder, create=True) as store:
            fill(store, of_suite)
    found = rows((tmp_path / "old", tmp_path / "new"))
    assert set(found["verdict"]) == {"identical; other settings"}


def test_folders_without_records_compare_to_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Store(tmp_path / name, create=True).close()
    assert side_by_side(read(tmp_path / "a", None), read(tmp_path / "b", None), ("a", "b")).empty


def test_a_folder_must_hold_a_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no store"):
        read(tmp_path, None)


def test_folders_have_the_shortest_different_names(tmp_path: Path) -> None:
    assert folder_names(Path("x/old"), Path("x/new")) == ("old", "new")
    assert folder_names(Path("a/results"), Path("b/results")) == ("a/results", "b/results")
    with pytest.raises(InputError, match="are the same"):
        folder_names(Path("a"), Path("b/../a"))


def test_a_folder_with_two_settings_under_one_label_can_be_compared(tmp_path: Path, tiny: Path, plan: Plan) -> None:
    other = tmp_path / "other.toml"
    other.write_text(tiny.read_text().replace("epochs = 1", "epochs = 2"))
    for folder, suites in (("old", [tiny]), ("new", [tiny, other])):
        with Store(tmp_path / folder, create=True) as store:
            for suite in suites:
                fill(store, make_plan(load_suite(suite), Path("data")))
    found = rows((tmp_path / "old", tmp_path / "new"))
    verdicts = {(optimizer, pruner): verdict for (optimizer, pruner), verdict in found["verdict"].items()}
    assert verdicts == {
        (f"{optimizer} (epochs={epochs})", pruner): "identical" if epochs == 1 else "only in new"
        for optimizer in ("adam", "stochgradadam")
        for epochs in (1, 2)
        for pruner in (DENSE, "magnitude")
    }


def test_pruners_of_one_label_are_paired_by_what_they_are(tmp_path: Path, tiny: Path, plan: Plan) -> None:
    other = tmp_path / "other.toml"
    other.write_text(tiny.read_text() + "include_classifier = true\n")
    for folder, suites in (("old", [tiny, other]), ("new", [other])):
        with Store(tmp_path / folder, create=True) as store:
            for suite in suites:
                fill(store, make_plan(load_suite(suite), Path("data")))
    verdicts = rows((tmp_path / "old", tmp_path / "new")).loc["adam", "verdict"].to_dict()
    assert verdicts == {
        DENSE: "identical",
        "magnitude (include_classifier=false)": "only in old",
        "magnitude (include_classifier=true)": "identical",
    }
