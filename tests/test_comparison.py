"""Comparisons of optimizers, against hand calculations on small tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sgabench.comparison import at_budget, compare, curves, ranks, verdict, verdicts

FEW = {"adam": [0.50, 0.52, 0.54], "sgd": [0.61, 0.62, 0.66], "lion": [0.5, 0.53, 0.53]}


def cells(values: dict[str, list[float]], **same: Any) -> pd.DataFrame:
    """A cell per optimizer and seed, with the given pruned accuracy and a dense accuracy of 0.8."""
    rows = [
        {"optimizer": optimizer, "seed": seed, "pruned_top1": top1, "retention": top1 / 0.8}
        for optimizer, by_seed in values.items()
        for seed, top1 in enumerate(by_seed)
    ]
    return pd.DataFrame(rows).assign(
        **{
            "dataset": "digits",
            "model": "resnet8",
            "pruner": "magnitude",
            "of": "weights",
            "ratio": 0.5,
            "status": "done",
            "dense_top1": 0.8,
            "dense_loss": 1.0,
            "group": "g",
            "device": "cpu",
            **same,
        }
    )


def table(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pairs.table for pairs in compare(frame, "pruned_top1")], ignore_index=True)


def told(frame: pd.DataFrame, reference: str = "adam") -> pd.DataFrame:
    (pairs,) = compare(frame, "pruned_top1")
    return verdicts(pairs, reference).set_index("optimizer")


def test_every_pair_is_compared_seed_by_seed() -> None:
    found = table(cells(FEW)).set_index(["first", "second"])
    assert list(found.index) == [("adam", "sgd"), ("adam", "lion"), ("sgd", "lion")]
    row = found.loc[("adam", "sgd")]
    assert row["difference"] == pytest.approx((-0.11 - 0.10 - 0.12) / 3)
    assert row["p"] == pytest.approx(stats.ttest_rel(FEW["adam"], FEW["sgd"]).pvalue)
    assert (row["n"], row["test"], row["metric"]) == (3, "t", "pruned_top1")
    assert row["low"] < row["difference"] < row["high"]


def test_the_family_is_all_pairs_at_all_prunings_of_a_data_set_and_model() -> None:
    two = pd.concat([cells(FEW), cells(FEW, ratio=0.8)])
    alone, together = table(cells(FEW)), table(two)
    smallest = alone["p"].min()
    assert alone["p_adjusted"].min() == pytest.approx(3 * smallest)
    assert together["p_adjusted"].min() == pytest.approx(6 * smallest)
    other = pd.concat([cells(FEW), cells(FEW, model="resnet20")])
    assert table(other)["p_adjusted"].min() == pytest.approx(3 * smallest)


def test_only_common_seeds_are_compared() -> None:
    frame = cells(FEW)
    frame = frame[~((frame["optimizer"] == "sgd") & (frame["seed"] == 0))]
    row = table(frame).set_index(["first", "second"]).loc[("adam", "sgd")]
    assert (row["n"], row["difference"]) == (2, pytest.approx(-0.11))


def test_other_seeds_are_no_pair() -> None:
    frame = pd.concat([cells({"adam": [0.5, 0.6]}), cells({"sgd": [0.9, 0.8]}).assign(seed=[7, 8])])
    row = table(frame).iloc[0]
    assert row["n"] == 0
    assert math.isnan(row["p"])
    assert told(frame).loc["sgd", "outcome"] == "none"


def test_a_difference_that_holds_is_a_verdict_in_words() -> None:
    frame = told(cells(FEW))
    sgd = frame.loc["sgd"].to_dict()
    assert sgd["outcome"] == "better"
    half = stats.t.ppf(0.975, 2) * np.std([0.11, 0.10, 0.12], ddof=1) / math.sqrt(3)
    p = 3 * stats.ttest_rel(FEW["adam"], FEW["sgd"]).pvalue
    assert verdict(sgd) == f"better than adam by 11.0 ± {100 * half:.1f} points (n = 3, p = {p:.2g})"
    assert told(cells(FEW), "sgd").loc["adam", "outcome"] == "worse"
    assert verdict(told(cells(FEW), "sgd").loc["adam"].to_dict()).startswith("worse than sgd by 11.0 ± ")


def test_verdicts_follow_the_seeds() -> None:
    close = {"adam": [0.5, 0.6, 0.7, 0.8], "sgd": [0.501, 0.599, 0.702, 0.799]}
    assert verdict(told(cells(close)).loc["sgd"].to_dict()).startswith("no difference shown (+0.0 ± 0.")
    wide = {"adam": [0.5, 0.6, 0.7], "sgd": [0.6, 0.55, 0.75]}
    row = told(cells(wide)).loc["sgd"]
    assert verdict(row.to_dict()) == f"not enough seeds: {row['seeds_needed'] - 3} more would resolve 2 points"
    assert row["seeds_needed"] > 50
    single = {"adam": [0.5], "sgd": [0.6]}
    assert verdict(told(cells(single)).loc["sgd"].to_dict()) == "one seed: no verdict"
    assert verdict(told(cells(close)).loc["adam"].to_dict()) == "reference"


def test_the_best_and_what_cannot_be_told_from_it_are_marked_alike() -> None:
    frame = told(cells(FEW))
    assert frame["best"].to_dict() == {"adam": False, "sgd": True, "lion": False}
    near = cells({**FEW, "lion": [0.6, 0.64, 0.65]})
    assert told(near)["best"].to_dict() == {"adam": False, "sgd": True, "lion": True}


def test_what_is_worse_than_another_is_not_best_even_if_the_highest_is_too_noisy_to_tell() -> None:
    noisy = {"adam": [0.50, 0.51, 0.52, 0.51], "sgd": [0.41, 0.42, 0.43, 0.421], "lion": [0.2, 0.9, 0.3, 0.99]}
    assert told(cells(noisy))["best"].to_dict() == {"adam": True, "sgd": False, "lion": True}


def test_one_seed_marks_nothing() -> None:
    assert not told(cells({"adam": [0.5], "sgd": [0.9]}))["best"].any()


def test_a_reference_that_is_not_there_gives_no_verdict() -> None:
    assert set(told(cells(FEW), "adamw")["outcome"]) == {"none"}
    assert told(cells({"adam": [0.5, 0.6]}))["outcome"].tolist() == ["reference"]


def curve(top1: dict[float, list[float]], optimizer: str = "adam", **same: Any) -> pd.DataFrame:
    return pd.concat([cells({optimizer: values}, ratio=ratio, **same) for ratio, values in top1.items()])


def test_curves_by_hand() -> None:
    frame = curves(curve({0.4: [0.8, 0.8], 0.8: [0.4, 0.6]}))
    row = frame.iloc[0]
    assert (row["n"], row["largest_ratio"]) == (2, 0.8)
    # Retention 1 until 0.4, then down to 0.5 and to 0.75.
    assert row["area"] == pytest.approx((0.875 + 0.9375) / 2)
    assert row["area_low"] < row["area"] < row["area_high"]
    assert row["keeps_95"] == pytest.approx(0.4 + 0.4 * 0.05 / 0.375)
    assert row["keeps_90"] == pytest.approx(0.4 + 0.4 * 0.10 / 0.375)


def test_curves_are_what_each_is_alone() -> None:
    """Of other ratios, of other seeds, with seeds that lack a ratio, and from the dense network on."""
    whole = curve({0.4: [0.8, 0.8], 0.8: [0.4, 0.6]})
    frames = [
        whole,
        curve({0.4: [0.7, 0.8], 0.8: [0.5, 0.6]}, "sgd"),
        curve({0.4: [0.7, 0.8], 0.8: [0.5, 0.6]}, "sgd", model="resnet20"),
        curve({0.2: [0.7, 0.8, 0.9], 0.4: [0.7, 0.8, 0.8], 0.8: [0.5, 0.6, 0.3]}, "lion"),
        curve({0.4: [0.7, 0.8], 0.8: [0.5]}, "half"),
        curve({0.4: [0.7], 0.8: [math.nan]}, "none"),
        curve({0.0: [0.8, 0.8], 0.8: [0.5, 0.6]}, "from zero"),
        curve({1.0: [0.8, 0.8], 2.0: [0.5, 0.6]}, "budget", of="compression"),
        whole.assign(optimizer="other seeds", seed=whole["seed"] + 17),
    ]
    together = curves(pd.concat(frames, ignore_index=True))
    alone = pd.concat([curves(frame.reset_index(drop=True)) for frame in frames], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone, rtol=1e-12)
    assert together["n"].tolist() == [2, 2, 2, 3, 1, 0, 2, 2, 2]


def test_a_curve_that_stays_above_is_beyond_the_tested_range() -> None:
    row = curves(curve({0.4: [0.8, 0.8], 0.8: [0.78, 0.77]})).iloc[0]
    assert row["keeps_95"] == math.inf
    assert 0.4 < row["keeps_99"] < 0.8


def test_a_seed_that_lacks_a_ratio_is_not_in_the_curve() -> None:
    frame = curve({0.4: [0.8, 0.8], 0.8: [0.4, 0.6]})
    frame.loc[(frame["ratio"] == 0.8) & (frame["seed"] == 1), ["status", "retention"]] = ["failed", math.nan]
    row = curves(frame).iloc[0]
    assert (row["n"], row["area"]) == (1, pytest.approx(0.875))
    none = curves(frame.assign(status="missing", retention=math.nan)).iloc[0]
    assert none["n"] == 0
    assert math.isnan(none["area"])


def test_optimizers_are_ranked_over_models_and_pruners() -> None:
    frame = pd.concat(
        [
            curve({0.5: values}, optimizer, model=model)
            for model in ("resnet8", "resnet20")
            for optimizer, values in FEW.items()
        ]
    )
    found = ranks(curves(frame))
    assert found.table["optimizer"].tolist()[0] == "sgd"
    assert (found.blocks, found.left_out) == (2, ())
    partial = pd.concat([frame, curve({0.5: [0.7, 0.7]}, "late")])
    assert ranks(curves(partial)).left_out == ("late",)


def test_nothing_measured_ranks_nothing() -> None:
    found = ranks(curves(cells(FEW).assign(status="missing", retention=math.nan)))
    assert (len(found.table), found.blocks) == (0, 0)


def budget(optimizer: str, achieved: dict[float, tuple[float, float]]) -> pd.DataFrame:
    """One seed; ratio to (compression ratio, pruned top-1)."""
    parts = [
        curve({ratio: [top1]}, optimizer).assign(compression_ratio=compression)
        for ratio, (compression, top1) in achieved.items()
    ]
    return pd.concat(parts)


def test_equal_budgets_are_interpolated_along_each_trials_curve() -> None:
    frame = pd.concat(
        [
            budget("adam", {0.5: (2.0, 0.7), 0.8: (4.0, 0.5)}),
            budget("sgd", {0.5: (1.8, 0.7), 0.8: (3.2, 0.5)}),
        ]
    )
    found = at_budget(frame, "compression").set_index(["optimizer", "ratio"])
    assert sorted(found.loc["adam"].index) == [1.25, 1.5, 2.0, 2.5, 3.0]  # sgd reaches no further than 3.2
    assert found.loc[("adam", 2.0), "pruned_top1"] == pytest.approx(0.7)
    halfway = (math.log(1.5) - 0) / math.log(2)
    assert found.loc[("adam", 1.5), "pruned_top1"] == pytest.approx(0.8 + halfway * (0.7 - 0.8))
    assert found.loc[("sgd", 2.0), "pruned_top1"] < 0.7
    assert (found["compression_ratio"] == found.index.get_level_values("ratio")).all()
    assert set(found["of"]) == {"compression"}


def test_a_budget_keeps_what_is_lacking() -> None:
    frame = pd.concat([budget("adam", {0.5: (2.0, 0.7)}), budget("sgd", {0.5: (2.0, 0.6)}).assign(status="failed")])
    found = at_budget(frame, "compression")
    assert set(found[found["optimizer"] == "sgd"]["status"]) == {"failed"}
    assert at_budget(frame.assign(status="missing"), "compression").empty


def test_curves_over_budgets_start_at_one() -> None:
    row = curves(at_budget(budget("adam", {0.5: (2.0, 0.4)}), "compression")).iloc[0]
    assert (row["of"], row["largest_ratio"]) == ("compression", 2.0)
    assert 1.0 < row["keeps_90"] < 1.25


def test_a_pruner_whose_ratio_is_of_multiply_adds_is_no_budget() -> None:
    row = curves(curve({0.3: [0.4]}, of="macs")).iloc[0]
    assert row["area"] == pytest.approx(0.75)  # from ratio 0 on, not from 1x


def test_numbers_of_equal_budgets_fit_together() -> None:
    frame = budget("adam", {0.75: (4.0, 0.6), 0.9: (10.0, 0.2)})
    frame = frame.assign(nonzero_params=1000 / frame["compression_ratio"], bytes=[400.0, 380.0], images_per_s=175.0)
    found = at_budget(frame.assign(dense_images_per_s=100.0), "compression").set_index("ratio")
    assert found["nonzero_params"].to_dict() == pytest.approx({level: 1000 / level for level in found.index})
    assert found["bytes"][found.index < 4].isna().all()  # nothing is known between the dense network and 4x
    assert 100 < found.loc[2.0, "images_per_s"] < 175
