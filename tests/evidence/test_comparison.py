"""Comparisons of optimizers, against hand calculations on small tables."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_tables import FEW, cells

from sgabench.evidence.comparison import compare, verdict, verdicts


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
