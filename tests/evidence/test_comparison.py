"""Cells to comparisons: what is compared with what, and what is said of it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from small_tables import cells, curve

from sgabench.evidence.comparison import DENSE, Question, compare, leading, verdict
from sgabench.evidence.cubes import cubes

SEEDS = 6


def made(shifts: dict[str, float], ratios: tuple[float, ...] = (0.5, 0.8), **same: object) -> pd.DataFrame:
    """Cells whose log-odds are shifted by a number for each optimizer."""
    random = np.random.default_rng(0)
    parts = []
    for ratio in ratios:
        base = random.normal(0.5, 0.3, SEEDS)
        for name, shift in shifts.items():
            odds = base + shift + random.normal(0, 0.1, SEEDS)
            parts.append(cells({name: list(1 / (1 + np.exp(-odds)))}, ratio=ratio, **same))
    return pd.concat(parts, ignore_index=True)


def rows(found: pd.DataFrame, **where: object) -> pd.DataFrame:
    for name, value in where.items():
        found = found[found[name].isna() if value is None else found[name] == value]
    return found


def test_curves_come_first_then_ratios_then_the_dense_networks() -> None:
    found = compare(cubes(made({"sgd": 0.0, "good": 2.0, "twin": 0.0})), Question("sgd"))
    assert rows(found, ratio=None)["first"].tolist() == ["good", "twin"]
    assert set(found["second"]) == {"sgd"}
    assert len(rows(found, pruner=DENSE)) == 2
    good = rows(found, first="good", ratio=None).iloc[0]
    assert good["outcome"] == "better"
    assert good["n_paired"] == SEEDS
    means = made({"sgd": 0.0, "good": 2.0, "twin": 0.0}).groupby("optimizer")["counted_top1"].mean()
    assert good["difference"] == pytest.approx(means["good"] - means["sgd"])


def test_single_ratios_are_decided_inside_a_curve_only() -> None:
    found = compare(cubes(made({"sgd": 0.0, "good": 2.0, "twin": 0.0})), Question("sgd"))
    of_good = rows(found, first="good", pruner="magnitude")
    assert set(of_good["outcome"]) == {"better"}
    twin = rows(found, first="twin", pruner="magnitude")
    assert not set(twin["outcome"]) & {"better", "worse"}
    assert (rows(twin, ratio=0.5)["level"] < rows(of_good, ratio=None)["level"].iloc[0]).all()


def test_a_curve_of_one_ratio_is_that_ratio() -> None:
    found = compare(cubes(made({"sgd": 0.0, "good": 2.0}, ratios=(0.5,))), Question("sgd"))
    whole, single = rows(found, ratio=None).iloc[0], rows(found, ratio=0.5).iloc[0]
    assert whole.drop("ratio").equals(single.drop("ratio"))


def test_the_pruner_that_is_asked_about_is_judged_alone_first() -> None:
    both = pd.concat([made({"sgd": 0.0, "good": 2.0}), made({"sgd": 0.0, "good": 1.0}, pruner="random")])
    alike = compare(cubes(both), Question("sgd"))
    asked = compare(cubes(both), Question("sgd", pruner="random"))
    place = {"first": "good", "ratio": None}
    assert (
        rows(asked, pruner="random", **place)["level"].iloc[0] > rows(alike, pruner="random", **place)["level"].iloc[0]
    )
    open_one = pd.concat([made({"sgd": 0.0, "twin": 0.0}), made({"sgd": 0.0, "twin": 2.0}, pruner="random")])
    shut = compare(cubes(open_one), Question("sgd", pruner="magnitude"))
    assert rows(shut, pruner="random", ratio=None)["outcome"].tolist() == ["undecided"]
    assert rows(compare(cubes(open_one), Question("sgd")), pruner="random", ratio=None)["outcome"].tolist() == [
        "better"
    ]


def test_a_ratio_may_be_what_is_asked_about() -> None:
    asked = compare(cubes(made({"sgd": 0.0, "good": 2.0})), Question("sgd", pruner="magnitude", ratios=(0.8,)))
    whole, single = rows(asked, ratio=None).iloc[0], rows(asked, ratio=0.8).iloc[0]
    assert whole["difference"] == single["difference"]


def test_all_pairs_are_compared_on_request() -> None:
    found = compare(cubes(made({"a": 0.0, "b": 0.5, "c": 1.0})), Question("b", pairs="all"))
    pairs = [(row.first, row.second) for row in rows(found, ratio=None).itertuples()]
    assert pairs == [("a", "b"), ("c", "a"), ("c", "b")]  # the reference is always the second


def test_all_pairs_pay_for_each_other() -> None:
    cells = made({"a": 0.0, "b": 0.5, "c": 0.5})
    few, all_ = (compare(cubes(cells), Question("a", pairs=pairs)) for pairs in ("reference", "all"))
    narrow, wide = (rows(found, ratio=None, first="b", second="a").iloc[0] for found in (few, all_))
    assert wide["difference"] == narrow["difference"]
    assert wide["difference_low"] < narrow["difference_low"] < narrow["difference_high"] < wide["difference_high"]


def test_each_look_spends_its_share() -> None:
    whole = compare(cubes(made({"sgd": 0.0, "good": 2.0})), Question("sgd"))
    part = compare(cubes(made({"sgd": 0.0, "good": 2.0})), Question("sgd", share=0.25))
    assert rows(part, ratio=None)["level"].iloc[0] == pytest.approx(rows(whole, ratio=None)["level"].iloc[0] / 4)


def test_interpolated_rows_are_not_judged_one_by_one() -> None:
    found = compare(cubes(made({"sgd": 0.0, "good": 2.0})), Question("sgd", interpolated=True))
    assert found["ratio"].isna().all()


def test_a_ratio_that_a_pruner_did_not_reach_is_no_part_of_a_curve() -> None:
    frame = made({"sgd": 0.0, "good": 2.0}, of="macs")
    frame["theoretical_speedup"] = np.where(frame["ratio"] == 0.8, 1 / (1 - 0.6), 1 / (1 - 0.5))
    found = compare(cubes(frame), Question("sgd"))
    curves = rows(found, ratio=None).iloc[0]
    assert curves["difference"] == rows(found, ratio=0.5).iloc[0]["difference"]
    assert rows(found, ratio=0.8)["outcome"].tolist() == ["none"]


def test_without_the_reference_nothing_is_compared() -> None:
    assert compare(cubes(made({"sgd": 0.0, "good": 2.0})), Question("adam")).empty
    assert compare(cubes(pd.DataFrame()), Question("adam")).empty
    nothing = curve({0.5: [math.nan] * 3}, "sgd")
    found = compare(cubes(pd.concat([nothing, curve({0.5: [0.5, 0.6, 0.7]}, "good")])), Question("sgd"))
    assert set(found[found["pruner"] != DENSE]["outcome"]) == {"none"}


@pytest.mark.parametrize(
    ("outcome", "limits", "words"),
    [
        ("better", (0.301, 0.55), "better than sgd by 41.0 points (30.1 to 55.0)"),
        ("worse", (-0.55, -0.301), "worse than sgd by 41.0 points (30.1 to 55.0)"),
        ("same", (-0.008, 0.011), "the same as sgd within 2 points (-0.8 to +1.1)"),
        ("undecided", (-0.01, 0.09), "undecided: -1.0 to +9.0 points"),
        ("fewer", (0.0, 0.09), "undecided: +0.0 to +9.0 points, and one side has fewer seeds"),
        ("few", (math.nan, math.nan), "no verdict with fewer than 3 seeds"),
    ],
)
def test_verdicts_say_the_effect(outcome: str, limits: tuple[float, float], words: str) -> None:
    row = {"outcome": outcome, "second": "sgd", "difference": 0.41 if outcome != "worse" else -0.41}
    assert verdict({**row, "difference_low": limits[0], "difference_high": limits[1]}) == words


def test_a_leading_group_leaves_somebody_out() -> None:
    below, above = ("undecided", -0.02, -0.1), ("undecided", 0.02, -0.1)
    same, same_above = ("same", -0.002, -0.01), ("same", 0.002, -0.01)
    assert leading({"a": below, "b": same}, "sgd") == set()
    assert leading({"a": ("worse", -0.3, -0.4), "b": same, "c": below}, "sgd") == {"sgd", "b", "c"}
    assert leading({"a": ("worse", -0.01, -0.015), "b": below}, "sgd") == {"sgd"}  # b is below one that is beaten
    assert leading({"a": ("better", 0.2, 0.1), "b": above, "c": below}, "sgd") == {"a", "b"}
    assert leading({"a": ("better", 0.2, 0.1), "b": same_above}, "sgd") == {"a"}
    assert leading({"a": ("better", 0.005, 0.001), "b": same_above}, "sgd") == {"a", "b"}
