"""What is said of verdicts: sentences, few words where there is little room, no word against its interval."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from small_tables import cells, curve, tables

from sgabench.evidence.comparison import Question, verdict
from sgabench.evidence.leaderboard import Tables
from sgabench.report.display import answers, in_short, sections, without_limits
from sgabench.report.formats import Format, render

SEEDS = 6


def odds(spread: float, **shifts: float) -> pd.DataFrame:
    """Two ratios; log-odds are shifted by a number for each optimizer, and spread."""
    random = np.random.default_rng(1)
    parts = []
    for name, shift in shifts.items():
        values = {ratio: 1 / (1 + np.exp(-shift - spread * random.normal(size=SEEDS))) for ratio in (0.5, 0.8)}
        parts.append(curve({ratio: list(of_ratio) for ratio, of_ratio in values.items()}, name))
    return pd.concat(parts, ignore_index=True)


def answer(frame: pd.DataFrame) -> str:
    (sentence,) = answers(tables(frame, Question("sgd")))
    return sentence


def test_a_winner_is_named_with_its_size_and_who_is_better_too() -> None:
    sentence = answer(odds(0.05, sgd=0.0, good=2.0, fair=1.0, bad=-1.0))
    assert re.match(r"digits, resnet8, magnitude: good is better than sgd by 3\d\.\d points \(3\d\.\d to ", sentence)
    assert ", mean of 2 ratios, n = 6; also better: fair by 2" in sentence
    assert "; worse: bad by 2" in sentence


def test_where_all_are_worse_nothing_is_better() -> None:
    sentence = answer(odds(0.05, sgd=0.0, bad=-1.0))
    assert sentence.startswith(
        "digits, resnet8, magnitude: nothing is shown to be better than sgd, mean of 2 ratios, n = 6;"
    )
    assert "; worse: bad by 2" in sentence


def test_what_is_the_same_is_stated_with_the_resolution() -> None:
    sentence = answer(odds(0.005, sgd=0.0, alike=0.0))
    assert sentence == "digits, resnet8, magnitude: the same as sgd within 2 points: alike."


def test_where_nothing_is_decided_the_cost_of_a_decision_is_stated() -> None:
    sentence = answer(odds(0.6, sgd=0.0, maybe=0.5).assign(trial_seconds=600.0))
    found = re.fullmatch(
        r"digits, resnet8, magnitude: nothing is decided with 6 seeds \(maybe against sgd\); (\d+) to \d+ more seeds "
        r"of maybe and sgd \(at least (\d+) trainings, about (\d+) minutes\) would decide a difference like the "
        r"observed one\.",
        sentence,
    )
    assert found, sentence
    more, trainings, minutes = map(int, found.groups())
    assert (trainings, minutes) == (2 * more, 2 * more * 10)


def test_fewer_than_three_seeds_give_no_verdict() -> None:
    sentence = answer(
        pd.concat([curve({0.5: [0.3, 0.31], 0.8: [0.2, 0.2]}, "sgd"), curve({0.5: [0.9, 0.9], 0.8: [0.8, 0.8]})])
    )
    assert sentence == "digits, resnet8, magnitude: no verdict; at least 3 seeds are needed of each optimizer."


def test_one_optimizer_has_no_answer() -> None:
    assert answers(tables(odds(0.1, sgd=0.0), Question("sgd"))) == []


@pytest.mark.parametrize(
    ("verdict", "without", "short"),
    [
        (
            "better than torch:SGD (x) by 3 points by 41.0 points (30.1 to 55.0)",
            "better than torch:SGD (x) by 3 points by 41.0 points",
            "better by 41.0",
        ),
        ("worse than sgd by 2.0 points (0.01 to 4.0)", "worse than sgd by 2.0 points", "worse by 2.0"),
        ("the same as sgd within 2 points (-0.8 to +1.1)", "the same as sgd within 2 points", "same"),
        ("undecided: -1.0 to +9.0 points; other settings", "undecided; other settings", "undecided"),
        ("no verdict with fewer than 3 seeds", "no verdict with fewer than 3 seeds", "few seeds"),
        ("reference", "reference", "reference"),
    ],
)
def test_verdicts_are_cut_where_there_is_little_room(verdict: str, without: str, short: str) -> None:
    assert (without_limits(verdict), in_short(verdict)) == (without, short)


@pytest.mark.parametrize("width", [80, 100, 130, 200])
def test_a_terminal_of_any_width_says_who_is_better(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = render(tables(odds(0.05, sgd=0.0, good=2.0, bad=-1.0), Question("sgd")), "table")
    (good,) = re.findall(r"mean of 2 ratios\n +good (.*)", text)
    assert re.search(r"better (than sgd )?by 3\d\.\d", good)
    assert ("(3" in good) == (width >= 140)
    assert max(map(len, text.splitlines())) <= width


SIGNED = re.compile(r"([-+]\d[\d.e-]*) to ([-+]\d[\d.e-]*)")


@pytest.mark.parametrize("form", get_args(Format))
@pytest.mark.parametrize("spread", [0.05, 0.3, 0.6])
def test_no_word_stands_against_its_interval(form: Format, spread: float) -> None:
    made = tables(odds(spread, sgd=0.0, good=2.0, fair=0.7, little=0.15, alike=0.0), Question("sgd"))
    for table in (made.leaderboard, made.curves, made.comparisons):
        for row in table.to_dict("records"):
            below, above = row["difference_low"] > 0, row["difference_high"] < 0
            if row["outcome"] not in ("reference", "none"):
                assert (below, above) == (row["outcome"] == "better", row["outcome"] == "worse")
    text = render(made, form)
    for low, high in SIGNED.findall(text):
        assert float(low) <= 0 <= float(high) or form == "html"  # whose comparisons have signs, too
    for low in re.findall(r"(?:better|worse) than sgd by [\d.]+ points \(([\d.e-]+) to", text):
        assert float(low) > 0


def test_a_limit_that_excludes_zero_is_not_rounded_to_it() -> None:
    row = {"outcome": "better", "second": "sgd", "difference": 0.027, "difference_low": 0.0001, "difference_high": 0.05}
    assert verdict(row) == "better than sgd by 2.7 points (0.01 to 5.0)"


def unfinished() -> Tables:
    """Of five trainings of one optimizer one diverged, and its pruner did not reach what was asked."""
    frame = pd.concat([cells({"sgd": [0.5] * 5}), cells({"good": [0.9, 0.9, 0.9, 0.9, 0.1]})], ignore_index=True)
    diverged = (frame["optimizer"] == "good") & (frame["seed"] == 4)
    frame["trained"] = ~diverged
    return tables(frame.assign(of="macs", theoretical_speedup=1.2), Question("sgd"))


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "html"])
def test_how_many_trained_and_what_was_not_reached_is_stated(monkeypatch: pytest.MonkeyPatch, form: Format) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = render(unfinished(), form)
    assert "4 of 5 (28.4 to 99.5" in text  # Clopper and Pearson
    assert "0.5 of macs, not reached" in text
    assert "better" not in re.sub(r"(?s)<script.*?</script>|Trained: .*?share\.", "", text).replace("is better)", "")


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "html"])
def test_interpolated_rows_say_so(monkeypatch: pytest.MonkeyPatch, form: Format) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = render(tables(interpolated(), Question("sgd", interpolated=True)), form)
    marked = "2.5x compression (interpolated)"
    assert marked in text
    assert "2.5x compression" not in text.replace(marked, "")


def interpolated() -> pd.DataFrame:
    frame = odds(0.1, sgd=0.0, good=1.0).assign(of="compression", interpolated=True)
    return frame.assign(ratio=5 * frame["ratio"])


@pytest.mark.parametrize("each", [False, True])
def test_interpolated_rows_are_marked_for_programs_too(each: bool) -> None:
    made, measured = tables(interpolated(), Question("sgd")), tables(odds(0.1, sgd=0.0, good=1.0), Question("sgd"))
    for found, mark in ((made, True), (measured, False)):
        rows = list(csv.DictReader(io.StringIO(render(found, "csv", cells=each))))
        assert {row["interpolated"] for row in rows} == {str(mark)}
        assert {row["interpolated"] for row in json.loads(render(found, "json", cells=each))["leaderboard"]} == {mark}


def test_what_trainings_cost_is_shown_where_it_differs() -> None:
    frame = odds(0.05, sgd=0.0, sam=2.0)
    passes = frame["optimizer"].map({"sgd": 100, "sam": 200})
    (shown,) = sections(tables(frame.assign(train_passes=passes, train_seconds=2.4), Question("sgd"))).values()
    whole = shown["ratio"].str.startswith("mean")
    assert set(map(tuple, shown[~whole][["optimizer", "passes", "train s"]].to_numpy())) == {
        ("sgd", "100", "2"),
        ("sam", "200", "2"),
    }
    assert set(shown[whole]["passes"]) == {""}
    (shown,) = sections(tables(frame.assign(train_passes=100, train_seconds=2.4), Question("sgd"))).values()
    assert not {"passes", "train s"} & set(shown)
