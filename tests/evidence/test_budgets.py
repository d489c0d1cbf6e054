"""Cells at equal achieved budgets, against hand calculations on small tables."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from small_tables import curve

from sgabench.evidence.budgets import at_budget
from sgabench.evidence.comparison import Question, compare
from sgabench.evidence.cubes import cubes
from sgabench.evidence.curves import curves


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
    cells = at_budget(budget("adam", {0.5: (2.0, 0.4)}), "compression")
    row = curves(cubes(cells), compare(cubes(cells), Question("adam")), "adam").iloc[0]
    assert (row["of"], row["largest_ratio"]) == ("compression", 2.0)
    assert 1.0 < row["keeps_90"] < 1.25


def test_numbers_of_equal_budgets_fit_together() -> None:
    frame = budget("adam", {0.75: (4.0, 0.6), 0.9: (10.0, 0.2)})
    frame = frame.assign(nonzero_params=1000 / frame["compression_ratio"], bytes=[400.0, 380.0], images_per_s=175.0)
    found = at_budget(frame.assign(dense_images_per_s=100.0), "compression").set_index("ratio")
    assert found["nonzero_params"].to_dict() == pytest.approx({level: 1000 / level for level in found.index})
    assert found["bytes"][found.index < 4].isna().all()  # nothing is known between the dense network and 4x
    assert 100 < found.loc[2.0, "images_per_s"] < 175
