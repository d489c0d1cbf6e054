"""Cells at equal costs of training, against hand calculations on small tables."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from small_tables import curve

from sgabench.errors import InputError
from sgabench.evidence.comparison import Question, compare
from sgabench.evidence.costs import AXES, AtCost, at_cost
from sgabench.evidence.cubes import cubes
from sgabench.evidence.frames import Frames

NAMES = {"sgd, twice": "sgd"}


def trained(label: str, passes: float, top1: dict[float, list[float]], **same: Any) -> pd.DataFrame:
    """The cells of an optimizer, over seeds, whose trainings took so many passes."""
    frame = curve(top1, label, group=label, train_passes=float(passes), train_seconds=passes / 10, key=label)
    return frame.assign(**same)


def frames(*parts: pd.DataFrame) -> Frames:
    cells = pd.concat(parts, ignore_index=True)
    made_of = {
        label: {"optimizer": {"name": NAMES.get(label, label), "training": {"epochs": number, "lr": 0.1}}}
        for number, label in enumerate(cells["optimizer"].unique(), start=1)
    }
    none = pd.DataFrame()
    return Frames(none, cells, none, none, (), made_of)


def compared(*parts: pd.DataFrame, by: str = "passes") -> AtCost:
    return at_cost(frames(*parts), by)


def test_lengths_that_cost_the_same_are_compared_as_they_were_measured() -> None:
    found = compared(
        trained("sgd", 100, {0.5: [0.5, 0.6]}),
        trained("sgd, twice", 200, {0.5: [0.7, 0.8]}),
        trained("sam", 200, {0.5: [0.6, 0.7]}),
    )
    assert set(found.cells["model"]) == {"resnet8 at 200 passes"}
    assert found.cells.groupby("optimizer")["pruned_top1"].apply(list).to_dict() == {
        "sgd": [0.7, 0.8],
        "sam": [0.6, 0.7],
    }
    assert not found.cells["interpolated"].any()
    assert set(found.cells["key"]) == {"sgd, twice", "sam"}
    assert (found.names["sgd, twice"], found.warnings) == ("sgd", ())


def test_between_two_lengths_numbers_are_interpolated_in_the_logarithm_of_the_cost() -> None:
    found = compared(
        trained("sgd", 100, {0.5: [0.5], 0.8: [0.2]}),
        trained("sgd, twice", 400, {0.5: [0.7], 0.8: [0.6]}),
        trained("sam", 300, {0.5: [0.6], 0.8: [0.5]}),
    ).cells.set_index(["optimizer", "ratio"])
    share = math.log(3) / math.log(4)
    assert found.loc[("sgd", 0.5), "counted_top1"] == pytest.approx(0.5 + share * 0.2)
    assert found.loc[("sgd", 0.8), "pruned_top1"] == pytest.approx(0.2 + share * 0.4)
    assert found.loc[("sgd", 0.8), "train_passes"] == 300
    assert found["interpolated"].to_dict() == {
        ("sgd", 0.5): True,
        ("sgd", 0.8): True,
        ("sam", 0.5): False,
        ("sam", 0.8): False,
    }
    assert set(found.loc["sgd"]["key"]) == {""}


def test_nothing_is_extrapolated() -> None:
    lengths = [trained("sgd", 100, {0.5: [0.5]}), trained("sgd, twice", 200, {0.5: [0.7]})]
    found = compared(*lengths, trained("adam", 150, {0.5: [0.6]}), trained("sam", 201, {0.5: [0.6]}))
    assert set(found.cells["model"]) == {"resnet8 at 150 passes"}
    assert set(found.cells["optimizer"]) == {"sgd", "adam"}
    assert found.warnings == (
        "left out, because no other optimizer's trainings reach the same cost: sam on digits, resnet8 (201 passes)",
    )
    with pytest.raises(InputError, match="--by passes: no two optimizers have trainings of the same cost") as refused:
        compared(*lengths, trained("sam", 201, {0.5: [0.6]}))
    assert "sgd on digits, resnet8 (100 and 200 passes)" in str(refused.value)


def test_seconds_are_compared_seed_by_seed_and_to_two_percent() -> None:
    seconds = {"sgd": [10.0, 11.0], "sgd, twice": [20.0, 22.0], "sam": [14.0, 15.0], "lion": [10.1, 10.9]}
    parts = [
        trained(label, 1, {0.5: [0.5, 0.5] if label == "sgd" else [0.7, 0.7]}).assign(train_seconds=of_seeds)
        for label, of_seeds in seconds.items()
    ]
    found = compared(*parts, by="train-seconds").cells
    levels = list(found["model"].unique())
    assert [level.split(" at ")[1] for level in levels] == ["10.5 s of training", "14.5 s of training"]
    near, between = (found[found["model"] == level].set_index(["optimizer", "seed"]) for level in levels)
    assert not near["interpolated"].any()
    assert set(near.index.get_level_values(0)) == {"sgd", "lion"}
    for seed, (cost, short, long) in enumerate([(14.0, 10.0, 20.0), (15.0, 11.0, 22.0)]):
        share = math.log(cost / short) / math.log(long / short)
        assert between.loc[("sgd", seed), "pruned_top1"] == pytest.approx(0.5 + 0.2 * share)
        assert between.loc[("sgd", seed), "train_seconds"] == cost


def test_a_length_that_is_lacking_is_lacking_where_it_is_needed() -> None:
    failed = {"status": "failed", "counted_top1": float("nan"), "train_passes": float("nan")}
    long = trained("sgd, twice", 400, {0.5: [0.7, 0.8]})
    long.loc[long["seed"] == 1, list(failed)] = list(failed.values())
    found = compared(
        trained("sgd", 100, {0.5: [0.5, 0.5]}),
        long,
        trained("sam", 200, {0.5: [0.6, 0.6]}),
        trained("adam", 100, {0.5: [0.6, 0.6]}),
    ).cells.set_index(["model", "optimizer", "seed"])
    assert found.loc[("resnet8 at 200 passes", "sgd", 0), "status"] == "done"
    assert found.loc[("resnet8 at 200 passes", "sgd", 1), "status"] == "failed"
    assert math.isnan(found.loc[("resnet8 at 200 passes", "sgd", 1), "counted_top1"])
    assert found.loc[("resnet8 at 100 passes", "sgd", 1), "status"] == "done"


def test_ranks_are_of_one_cost_only() -> None:
    found = compared(
        trained("sgd", 100, {0.5: [0.5]}),
        trained("sgd, twice", 200, {0.5: [0.7]}),
        trained("sam", 200, {0.5: [0.6]}),
        trained("adam", 100, {0.5: [0.6]}),
        trained("lion", 100, {0.5: [0.6]}),
    )
    assert found.cells["model"].nunique() == 2
    assert found.blocks == {("digits", "resnet8 at 100 passes")}


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (("sgd", "sgd, twice"), "sgd"),
        (("sgd training={epochs = 1}", "sgd training={epochs = 2}"), "sgd"),
        (("sgd (epochs=1)", "sgd (epochs=2)"), "sgd"),
        (("short", "long"), "short / long"),
    ],
)
def test_lengths_have_the_name_that_they_have_in_common(
    monkeypatch: pytest.MonkeyPatch, labels: tuple[str, str], name: str
) -> None:
    monkeypatch.setattr("test_costs.NAMES", dict.fromkeys(labels, "sgd"))
    parts = [trained(label, 100 * (i + 1), {0.5: [0.5]}) for i, label in enumerate(labels)]
    found = compared(*parts, trained("sam", 200, {0.5: [0.6]}))
    assert set(found.cells["optimizer"]) == {name, "sam"}


def test_single_ratios_are_judged_where_nothing_is_interpolated() -> None:
    good, bad = [0.90, 0.91, 0.92, 0.90, 0.91], [0.50, 0.52, 0.51, 0.50, 0.52]
    measured = compared(trained("sgd", 100, {0.5: bad, 0.8: bad}), trained("sam", 100, {0.5: good, 0.8: good})).cells
    rows = compare(cubes(measured), Question("sgd"))
    assert set(rows[rows["ratio"].notna() & (rows["pruner"] != "(dense)")]["outcome"]) == {"better"}
    assert set(rows["model"]) == {"resnet8 at 100 passes"}


def test_one_pass_is_reported_as_one() -> None:
    assert [AXES["passes"].in_words(1.0), AXES["passes"].in_words(1.0, 2.0)] == ["1 pass", "1 and 2 passes"]
    assert AXES["train-seconds"].in_words(1.0) == "1 s of training"
