"""Verdicts: what each interval says, and how often it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from sgabench.evidence.contrasts import Contrasts, Sides, contrasts
from sgabench.evidence.decisions import CURVES, MOST_SEEDS, decide, seeds_to_decide

IMAGES = 360.0
POPULATIONS = Path(__file__).parents[2] / "benchmarks" / "evidence" / "populations.csv"
MAGNITUDE = ["magnitude 0.5", "magnitude 0.7", "magnitude 0.8", "magnitude 0.9"]
Floats = NDArray[np.float64]

# Digits, resnet8, 30 epochs, magnitude at 0.8: SGD and proximal SGD.
SGD = np.array([0.556, 0.514, 0.669, 0.317, 0.772])
PROXIMAL = np.array([0.975, 0.964, 0.961, 0.956, 0.989])


def compare(first: Floats, second: Floats, images: float = IMAGES) -> Contrasts:
    """Comparisons of one family; shape (rows, seeds, ratios)."""
    where = np.arange(len(first)), np.zeros(len(first), dtype=np.int64)
    return contrasts([Sides(*where, first, second, np.full(len(first), images), True)], len(first))


def verdicts(found: Contrasts, budget: float = CURVES, resolution: float = 0.02) -> list[str]:
    judged = decide(found, np.zeros(len(found.n), dtype=np.int64), np.array([budget]), resolution)
    excludes = (judged.low > 0) | (judged.high < 0)
    assert (excludes == np.isin(judged.outcome, ("better", "worse"))).all()
    inside = (judged.low >= -resolution) & (judged.high <= resolution)
    assert (~inside | np.isin(judged.outcome, ("same", "better", "worse"))).all()
    return list(judged.outcome)


def others(seed: int = 0) -> Floats:
    """Five optimizers that are as SGD is."""
    odds = np.log(SGD / (1 - SGD)) + np.random.default_rng(seed).normal(0, 0.6, (5, 5))
    return 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize("seed", range(5))
def test_forty_points_in_five_of_five_seeds_are_found_among_six(seed: int) -> None:
    first = np.vstack([PROXIMAL, others(seed)])[:, :, None]
    second = np.broadcast_to(SGD[:, None], first.shape)
    found = verdicts(compare(first, second))
    assert found[0] == "better"
    assert set(found[1:]) <= {"undecided", "same"}


def test_they_are_found_over_a_curve_too() -> None:
    """With ratios that keep everything and nothing beside the one that differs."""
    first, second = (
        np.stack([np.full(5, 0.985) + 0.001 * np.arange(5), values, np.full(5, 0.15) + 0.01 * np.arange(5)], axis=1)
        for values in (PROXIMAL, SGD)
    )
    rest = np.repeat(second[None], 5, axis=0).copy()
    rest[:, :, 1] = others()
    sides = np.concatenate([first[None], rest]), np.broadcast_to(second, (6, 5, 3))
    assert verdicts(compare(*sides))[0] == "better"


def test_two_curves_that_are_alike_are_the_same_within_the_resolution() -> None:
    random = np.random.default_rng(0)
    second = random.normal(0.7, 0.03, (1, 30, 4))
    found = compare(second + random.normal(0, 0.005, second.shape), second)
    assert verdicts(found) == ["same"]
    assert verdicts(found, resolution=0.0001) == ["undecided"]


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_seeds_have_no_verdict(n: int) -> None:
    assert verdicts(compare(np.full((1, n, 1), 0.9), np.full((1, n, 1), 0.1))) == ["few"]


def test_what_is_not_opened_keeps_zero_in_its_interval() -> None:
    found = compare(np.full((1, 5, 1), 0.9), np.array([[[0.1], [0.12], [0.1], [0.09], [0.1]]]))
    judged = decide(found, np.zeros(1, dtype=np.int64), np.array([0.05]), opened=np.zeros(1, dtype=bool))
    assert list(judged.outcome) == ["undecided"]
    assert judged.low[0] == 0 < judged.high[0]


def test_holm_frees_the_share_of_what_differs_but_not_of_what_is_the_same() -> None:
    random = np.random.default_rng(1)
    second = random.normal(0.6, 0.02, (1, 8, 3))
    first = np.concatenate([second + 0.3, second + random.normal(0, 0.002, second.shape), second - 0.01])
    found = compare(first, np.broadcast_to(second, first.shape))
    judged = decide(found, np.zeros(3, dtype=np.int64), np.array([0.06]))
    assert list(judged.outcome[:2]) == ["better", "same"]
    assert judged.level[1] == pytest.approx(0.02)  # of three
    alone = decide(found, np.arange(3), np.full(3, 0.06))
    assert alone.level.tolist() == pytest.approx([0.06] * 3)


def test_skewness_alone_is_no_verdict() -> None:
    """Where means of accuracy and of log-odds disagree on the direction, nothing is claimed."""
    first = np.array([[[0.999], [0.999], [0.999], [0.999], [0.3]]])
    second = np.full((1, 5, 1), 0.9)
    found = compare(first, second, images=1e6)
    assert np.sign(found.estimate[0]) != np.sign(found.difference[0])
    judged = decide(found, np.zeros(1, dtype=np.int64), np.array([0.9]))
    assert judged.outcome[0] == "undecided"


def test_shapes_that_differ_around_the_same_mean_are_no_difference_however_many_seeds() -> None:
    """Log-odds differ, and seventy of a hundred reports would say so; percentages do not."""
    random = np.random.default_rng(5)
    reports, n = 200, 50
    second = random.normal(0.9, 0.005, (reports, n, 4))
    first = random.normal(0.9, 0.005, (reports, n, 4)) + np.where(random.random((reports, n, 1)) < 0.5, -0.07, 0.07)
    places = np.arange(reports)
    found = contrasts([Sides(places, places, first, second, np.full(reports, 1e3), True)], reports)
    assert (found.p() <= CURVES).mean() > 0.5
    judged = decide(found, places, np.full(reports, CURVES))
    shown = np.isin(judged.outcome, ("better", "worse"))
    assert shown.mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / reports)
    assert not ((judged.low > 0) | (judged.high < 0))[~shown].any()


def test_beside_what_takes_many_seeds_one_that_takes_a_single_one_is_asked_for_it() -> None:
    rng = np.random.default_rng(3)
    shifts = np.linspace(0.0, 0.6, 41)[:, None, None]
    first = 1 / (1 + np.exp(-(shifts + rng.normal(0, 0.3, (41, 5, 4)))))
    second = np.broadcast_to(1 / (1 + np.exp(-rng.normal(0, 0.3, (5, 4)))), first.shape)
    found = compare(first, second, 1e5)
    judged = decide(found, np.arange(41), np.full(41, CURVES))
    open_ones = judged.outcome == "undecided"
    needed = seeds_to_decide(found, judged, resolution=0.001)
    assert needed[open_ones].min() == 1
    assert needed.max() > 100
    assert (needed[open_ones, 0] <= needed[open_ones, 1]).all()
    assert not needed[~open_ones].any()


def test_the_seeds_that_are_asked_for_decide() -> None:
    random = np.random.default_rng(3)
    second = random.normal(0.6, 0.05, (1, 4, 3))
    noise = random.normal(0.02, 0.05, (1, 200, 3))
    first = np.clip(second + noise[:, :4], 0, 1)
    found = compare(first, second)
    judged = decide(found, np.zeros(1, dtype=np.int64), np.array([CURVES]))
    assert judged.outcome[0] == "undecided"
    ((even, likely),) = seeds_to_decide(found, judged).tolist()
    assert 0 < even < likely <= MOST_SEEDS
    times = int(np.ceil((4 + likely) / 4))
    more = compare(np.tile(first, (1, times, 1)), np.tile(second, (1, times, 1)))
    assert verdicts(more) != ["undecided"]


def population(dataset: str) -> dict[str, Floats]:
    """Accuracies over the curve of magnitude, of each optimizer, shape (seeds, ratios)."""
    table = pd.read_csv(POPULATIONS)
    part = table[table["dataset"] == dataset].sort_values("seed")
    return {str(n): rows[MAGNITUDE].to_numpy() / rows["test_images"].iloc[0] for n, rows in part.groupby("optimizer")}


def drawn(values: Floats, reports: int, n: int, seed: int) -> NDArray[np.int64]:
    return np.argsort(np.random.default_rng(seed).random((reports, len(values))), axis=1)[:, :n]


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("collapse", [0.0, 0.2])
def test_where_there_is_nothing_at_most_one_report_in_twenty_claims_something(n: int, collapse: float) -> None:
    values, reports = population("digits")["sgd"], 500
    found = values[drawn(values, reports, 4 * n, seed=n).reshape(reports, 4, n)]
    gone = np.random.default_rng(9).random((reports, 4, n, 1)) < collapse
    found = np.where(gone, 0.1, found)
    first, second = found[:, 1:].reshape(-1, n, 4), np.repeat(found[:, :1], 3, axis=1).reshape(-1, n, 4)
    block = np.repeat(np.arange(reports), 3)
    images = np.full(len(block), IMAGES)
    judged = decide(
        contrasts([Sides(np.arange(len(block)), block, first, second, images, True)], len(block)),
        block,
        np.full(reports, CURVES),
    )
    wrong = np.isin(judged.outcome, ("better", "worse")).reshape(reports, 3).any(1)
    assert wrong.mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / reports)


def test_what_differs_is_found_with_five_seeds_more_often_than_not() -> None:
    values, reports, n = population("digits"), 400, 5
    names = ("adam", "stochgradadam", "prox-sgd-strong")
    rows = drawn(values["sgd"], reports, n, seed=1)
    first = np.stack([values[name][rows] for name in names], axis=1).reshape(-1, n, 4)
    second = np.repeat(values["sgd"][rows][:, None], 3, axis=1).reshape(-1, n, 4)
    block = np.repeat(np.arange(reports), 3)
    images = np.full(len(block), IMAGES)
    judged = decide(
        contrasts([Sides(np.arange(len(block)), block, first, second, images, True)], len(block)),
        block,
        np.full(reports, CURVES),
    )
    outcome = judged.outcome.reshape(reports, 3)
    assert (outcome[:, :2] == "worse").mean() > 0.7
    assert (outcome[:, 2] == "better").mean() > 0.7
    assert not (outcome[:, :2] == "better").any()
