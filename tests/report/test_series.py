from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from study import HOSTILE, Study

from sgabench.report.plots import pareto
from sgabench.report.series import (
    COLORS,
    DASHES,
    Cloud,
    Panel,
    Style,
    _natural,
    cliques,
    pareto_front,
    pareto_panels,
    styles,
)


def test_the_front_has_what_none_beats() -> None:
    cost, top1 = np.array([1.0, 2.0, 3.0, 3.0, 4.0]), np.array([0.9, 0.8, 0.85, 0.7, 0.5])
    assert pareto_front(cost, top1, more_is_better=True) == [4, 2, 0]
    assert pareto_front(cost, top1, more_is_better=False) == [0]


def test_of_equal_points_one_is_on_the_front() -> None:
    assert pareto_front(np.array([1.0, 1.0]), np.array([0.5, 0.5]), more_is_better=True) == [0]


def test_cliques_are_the_largest_runs_within_the_critical_difference() -> None:
    assert cliques(np.array([1.0, 1.5, 2.2, 3.4]), 1.0) == [(0, 1), (1, 2)]
    assert cliques(np.array([1.0, 1.5, 1.8, 4.0]), 1.0) == [(0, 2)]
    assert cliques(np.array([1.0, 3.0]), 1.0) == []
    assert cliques(np.array([1.5, 1.5]), 1.0) == [(0, 1)]


def test_layers_are_sorted_by_their_numbers() -> None:
    assert sorted(["layer10.1", "layer2.0", "conv1", "layer2.10"], key=_natural) == [
        "conv1",
        "layer2.0",
        "layer2.10",
        "layer10.1",
    ]


def test_looks_follow_the_suite_and_do_not_repeat_soon(study: Study) -> None:
    looks = styles(study.tables, study.details)
    assert list(looks) == ["adam", HOSTILE]
    assert [look.color for look in looks.values()] == list(COLORS[:2])
    assert len(set(COLORS)) == 6


def test_the_dense_networks_are_in_the_clouds(study: Study) -> None:
    (panel,) = pareto_panels(study.tables, "images_per_s")
    adam = panel.lines[0]
    # Twice as fast as the dense one, which was timed beside: median of 100 * (1 + ratio) / 2.
    assert (adam.texts[0], adam.cost[0]) == ("dense", pytest.approx(50 * (1 + 0.4)))
    assert adam.top1[0] == pytest.approx(81)
    (panel,) = pareto_panels(study.tables, "nonzero_params")
    assert list(panel.lines[0].cost[:4]) == pytest.approx([1000, 800, 600, 200])


def test_speeds_of_different_machines_are_never_in_one_panel(study: Study) -> None:
    cells = study.tables.cells.copy()
    slow = cells["seed"] == 0
    cells.loc[slow, "threads"] = 8
    cells.loc[slow, "images_per_s"] /= 10
    other, one = pareto_panels(replace(study.tables, cells=cells), "images_per_s")
    assert (one.title, other.title) == ("digits, resnet8, cpu: x, 1 thread", "digits, resnet8, cpu: x, 8 threads")
    assert list(one.lines[0].cost) == pytest.approx([70, 120, 140, 180, 120, 140, 180])
    assert list(other.lines[0].cost) == pytest.approx([7, 12, 14, 18, 12, 14, 18])


def test_masked_networks_are_on_no_axis_of_speed(study: Study) -> None:
    board = study.tables.leaderboard.assign(images_per_s=float("nan"))
    assert list(pareto_panels(replace(study.tables, leaderboard=board), "images_per_s")) == []


def test_optimizers_that_share_a_color_are_drawn_hollow() -> None:
    first, last = Style(COLORS[0], DASHES[0], "circle"), Style(COLORS[0], DASHES[1], "x")
    cloud = Cloud("a", ("", "magnitude"), ("dense", "0.5"), np.array([2.0, 1.0]), np.array([90.0, 80.0]))
    panel = Panel("p", (cloud, replace(cloud, optimizer="b")))
    traces = pareto(panel, {"a": first, "b": last}, "nonzero_params")["data"][1:]
    points, keys = ([t for t in traces if (t["x"] != [None]) is drawn] for drawn in (True, False))
    assert [list(trace["marker"]["symbol"]) for trace in points] == [["star", "circle"], ["star-open", "circle-open"]]
    assert [(key["name"], key["marker"]["symbol"]) for key in keys] == [
        ("a", "circle"),
        ("b", "circle-open"),
        ("dense", "star"),
        ("magnitude", "circle"),
    ]
    assert [trace["legendgroup"] for trace in points] == [key["legendgroup"] for key in keys[:2]]
