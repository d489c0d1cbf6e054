"""Performance profiles in every format that has them."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pandas as pd
import pytest
from small_tables import curve, tables

from sgabench.evidence.comparison import Question
from sgabench.evidence.leaderboard import Tables
from sgabench.report.formats import render
from sgabench.report.profiles import profile_table


@pytest.fixture
def several() -> Tables:
    """Two models, two optimizers; one more that has only one of them."""
    parts = [curve({0.5: [0.6, 0.7, 0.8], 0.8: [0.4, 0.5, 0.6]}, "adam", model=model) for model in ("a", "b")]
    parts += [curve({0.5: [0.9, 0.9, 0.9], 0.8: [0.7, 0.7, 0.7]}, "sgd", model=model) for model in ("a", "b")]
    parts.append(curve({0.5: [0.9, 0.9, 0.9], 0.8: [0.7, 0.7, 0.7]}, "late", model="a"))
    return tables(pd.concat(parts, ignore_index=True), Question("adam"))


def test_the_table_has_the_best_first(several: Tables) -> None:
    assert several.profiles is not None
    table = profile_table(several.profiles, several.arm)
    assert table["optimizer"].tolist() == ["sgd", "adam"]
    # Runs of Adam are at 0.5, 0.6 and 0.7 on both models: the middle half of six are the four without the ends.
    assert table["interquartile mean %"].tolist() == ["80.0", "60.0"]
    assert table["runs above 50 %"].tolist() == ["100.0 %", "100.0 %"]
    assert table["runs above 90 %"].tolist() == ["0.0 %", "0.0 %"]
    low, high = map(float, table["95 % interval"][1].split(" to "))
    assert 50 <= low < 60 < high <= 70


def test_every_format_has_the_profiles(several: Tables) -> None:
    sentence = (
        "Interquartile means over 2 pairs of data set and model, 6 runs of each optimizer: sgd 80.0 %, adam 60.0 %."
    )
    assert sentence in render(several, "markdown")
    assert "| sgd | 6 | 80.0 |" in render(several, "markdown")
    page = render(several, "html")
    assert sentence in page
    assert "Left out, because a data set or model is missing: late." in page
    assert 'id="profiles-table"' in page
    found = json.loads(render(several, "json"))["profiles"]
    assert [(row["optimizer"], row["interquartile"]) for row in found["optimizers"]] == [
        ("adam", pytest.approx(0.6)),
        ("sgd", pytest.approx(0.8)),
    ]
    assert len(found["levels"]) == len(found["optimizers"][0]["share"])


def test_the_figure_falls_from_all_runs_to_none(several: Tables) -> None:
    (text,) = re.findall(r'id="profiles-1-data">(.*?)</script>', render(several, "html"))
    lines = {trace["name"]: trace["y"] for trace in json.loads(text)["data"] if trace.get("name")}
    assert {name: (y[0], y[-1]) for name, y in lines.items()} == {"adam": (100, 0), "sgd": (100, 0)}
    assert all(a >= b for y in lines.values() for a, b in pairwise(y))


def test_one_model_has_no_profiles_anywhere(several: Tables) -> None:
    one = tables(several.cells[several.cells["model"] == "a"], Question("adam"))
    assert "Performance profiles" not in render(one, "markdown")
    assert 'id="profiles-table"' not in render(one, "html")
    assert json.loads(render(one, "json"))["profiles"] is None
