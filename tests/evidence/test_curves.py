"""Curves over ratios and ranks by them, against hand calculations on small tables."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from small_tables import FEW, cells, curve

from sgabench.evidence.comparison import Question, compare
from sgabench.evidence.cubes import cubes
from sgabench.evidence.curves import curves
from sgabench.evidence.ranks import profiles, ranks


def summaries(frame: pd.DataFrame, reference: str = "adam") -> pd.DataFrame:
    """Of cells, with what the comparison with a reference gives."""
    return curves(cubes(frame), compare(cubes(frame), Question(reference)), reference)


def test_curves_by_hand() -> None:
    frame = summaries(curve({0.4: [0.8, 0.8], 0.8: [0.4, 0.6]}))
    row = frame.iloc[0]
    assert (row["n"], row["largest_ratio"]) == (2, 0.8)
    # Retention 1 until 0.4, then down to 0.5 and to 0.75.
    assert row["area"] == pytest.approx((0.875 + 0.9375) / 2)
    assert row["area_low"] < row["area"] < row["area_high"]
    assert row["keeps_95"] == pytest.approx(0.4 + 0.4 * 0.05 / 0.375)
    assert row["keeps_90"] == pytest.approx(0.4 + 0.4 * 0.10 / 0.375)


def test_curves_are_the_same_together_and_alone() -> None:
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
    together = summaries(pd.concat(frames, ignore_index=True))
    alone = pd.concat([summaries(frame.reset_index(drop=True)) for frame in frames], ignore_index=True)
    about = ["dataset", "model", "pruner", "of", "optimizer"]
    numbers = [*about, "n", "ratios", "accuracy", "accuracy_low", "area", "keeps_95", "largest_ratio"]
    together, alone = (frame.sort_values(about, ignore_index=True)[numbers] for frame in (together, alone))
    pd.testing.assert_frame_equal(together, alone, rtol=1e-12)
    counts = dict(zip(together["optimizer"], together["n"], strict=True))
    assert counts == {
        "adam": 2,
        "sgd": 2,
        "lion": 3,
        "half": 1,
        "none": 1,  # a curve of the ratio that it has
        "from zero": 2,
        "budget": 2,
        "other seeds": 2,
    }


def test_a_curve_that_stays_above_is_beyond_the_tested_range() -> None:
    row = summaries(curve({0.4: [0.8, 0.8], 0.8: [0.78, 0.77]})).iloc[0]
    assert row["keeps_95"] == math.inf
    assert 0.4 < row["keeps_99"] < 0.8


def test_a_seed_that_lacks_a_ratio_is_not_in_the_curve() -> None:
    frame = curve({0.4: [0.8, 0.8], 0.8: [0.4, 0.6]})
    frame.loc[(frame["ratio"] == 0.8) & (frame["seed"] == 1), ["status", "counted_top1"]] = ["failed", math.nan]
    row = summaries(frame).iloc[0]
    assert (row["n"], row["area"]) == (1, pytest.approx(0.875))
    none = summaries(frame.assign(status="missing", counted_top1=math.nan)).iloc[0]
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
    found = ranks(summaries(frame))
    assert found.table["optimizer"].tolist()[0] == "sgd"
    assert (found.blocks, found.left_out) == (2, ())
    partial = pd.concat([frame, curve({0.5: [0.7, 0.7]}, "late")])
    assert ranks(summaries(partial)).left_out == ("late",)


def test_nothing_measured_ranks_nothing() -> None:
    found = ranks(summaries(cells(FEW).assign(status="missing", counted_top1=math.nan)))
    assert (len(found.table), found.blocks) == (0, 0)


def test_a_pruner_whose_ratio_is_of_multiply_adds_is_no_budget() -> None:
    row = summaries(curve({0.3: [0.4]}, of="macs")).iloc[0]
    assert row["area"] == pytest.approx(0.75)  # from ratio 0 on, not from 1x


def two_blocks() -> pd.DataFrame:
    """Scores of Adam: 0.2, 0.4 on one model, 0.6, 0.8 on the other; of SGD always 0.5."""
    adam = {"resnet8": [0.2, 0.4], "resnet20": [0.6, 0.8]}
    parts = [
        curve({0.5: [s - 0.1 for s in scores], 0.8: [s + 0.1 for s in scores]}, model=model)
        for model, scores in adam.items()
    ]
    parts += [curve({0.5: [0.5, 0.5], 0.8: [0.5, 0.5]}, "sgd", model=model) for model in adam]
    return pd.concat(parts, ignore_index=True)


def test_profiles_by_hand() -> None:
    found = profiles(two_blocks(), levels=11)
    assert found is not None
    assert (found.optimizers, found.blocks, found.runs, found.left_out) == (("adam", "sgd"), 2, 4, ())
    # Of four runs, as many are at 0.1, 0.3, 0.5, 0.7, 0.9 or above.
    assert found.share[0][[1, 3, 5, 7, 9]].tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert found.share[1].tolist() == [1] * 6 + [0] * 5
    assert found.interquartile.tolist() == pytest.approx([0.5, 0.5])  # of Adam, 0.4 and 0.6 are the middle half
    # Resampled, a block of Adam is twice the one seed, twice the other, or both: the middle half is at least that of
    # 0.2 0.2 0.6 0.6, and at most that of 0.4 0.4 0.8 0.8, each in one of 16 draws.
    assert found.interquartile_low[0] == pytest.approx(0.4)
    assert found.interquartile_high[0] == pytest.approx(0.6)
    assert (found.interquartile_low[1], found.interquartile_high[1]) == (0.5, 0.5)
    assert (found.share_low[0][3], found.share_high[0][3]) == (0.5, 1.0)
    assert found.share_low[1].tolist() == found.share_high[1].tolist() == found.share[1].tolist()


def test_profiles_count_what_every_optimizer_has() -> None:
    frame = two_blocks()
    found = profiles(pd.concat([frame, curve({0.5: [0.9, 0.9]}, "late")], ignore_index=True))
    assert found is not None
    assert (found.optimizers, found.left_out) == (("adam", "sgd"), ("late",))
    # A model of which nothing is measured yet changes nothing.
    missing = curve({0.5: [math.nan, math.nan]}, model="resnet56")
    unfinished = profiles(pd.concat([frame, missing], ignore_index=True))
    assert unfinished is not None
    assert (unfinished.blocks, unfinished.runs) == (2, 4)
    # A ratio that only one has, the dense network, and a seed that one lacks change nothing.
    more = [
        frame,
        curve({0.9: [0.0, 0.0]}),
        curve({0.0: [0.9, 0.9]}),
        cells({"sgd": [0.0, 0.0, 0.0]}, ratio=0.5).iloc[2:],
    ]
    again = profiles(pd.concat(more, ignore_index=True))
    assert again is not None
    assert again.share.tolist() == found.share.tolist()
    assert again.runs == 4


def test_a_ratio_that_one_seed_did_not_reach_counts_in_no_profile() -> None:
    frame = two_blocks()
    odd = pd.concat([curve({0.9: [0.0, 0.0]}, name) for name in ("adam", "sgd")]).assign(of="macs")
    odd["theoretical_speedup"] = [10.0, 10.0, 10.0, 1.1]
    before, after = profiles(frame), profiles(pd.concat([frame, odd], ignore_index=True))
    assert before is not None
    assert after is not None
    assert (after.runs, after.interquartile.tolist()) == (before.runs, before.interquartile.tolist())


def test_one_block_or_one_optimizer_has_no_profile() -> None:
    frame = two_blocks()
    assert profiles(frame[frame["model"] == "resnet8"]) is None
    assert profiles(frame[frame["optimizer"] == "sgd"]) is None
    assert profiles(frame.iloc[:0]) is None
