"""What is shown of a new measurement: error rates at the borders, limits that agree with verdicts, seeds to decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from sgabench.evidence.contrasts import Contrasts, Sides, contrasts
from sgabench.evidence.inferiority import WORSE, holm, show, usual_spreads

ROWS = 4


def drawn(
    generator: np.random.Generator, shift: Any, n: int = 5, paired: bool = True, spread: float = 0.3
) -> Contrasts:
    """Four comparisons of one family around 80 %, two ratios each, as counts of 1000 images."""
    spread = 0.3
    shared = generator.normal(0, spread, (ROWS, n, 1)) if paired else 0.0
    sides = [
        special.expit(1.4 + move + shared + generator.normal(0, spread, (ROWS, n, 2)))
        for move in (np.broadcast_to(shift, ROWS)[:, None, None], 0.0)
    ]
    first, second = (np.round(1000 * side) / 1000 for side in sides)
    at = np.arange(ROWS)
    return contrasts([Sides(at, 0 * at, first, second, np.full(ROWS, 1000.0), paired)], ROWS)


def amounts(tolerance: float, margin: float) -> tuple[Any, Any]:
    return np.full(ROWS, tolerance), np.full(ROWS, margin)


@pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])
def test_where_nothing_is_worse_few_sets_are_called_so(paired: bool) -> None:
    generator = np.random.default_rng(5)
    shown = [show(drawn(generator, 0.0, paired=paired), *amounts(0.0, 0.05)) for _ in range(300)]
    assert np.mean([(each.outcome == "worse").any() for each in shown]) < WORSE + 0.02
    assert np.mean([(each.outcome == "better").any() for each in shown]) < WORSE + 0.02


def test_what_lost_more_than_the_margin_is_hardly_ever_held() -> None:
    generator = np.random.default_rng(6)
    lost = special.expit(1.4) - 0.09  # nine points, of which the margin is eight
    shift = float(special.logit(lost)) - 1.4
    held = [show(drawn(generator, shift), *amounts(0.0, 0.08)).outcome == "held" for _ in range(200)]
    assert np.mean(held) < 0.06


def test_a_loss_is_found_and_a_set_without_one_is_held() -> None:
    generator = np.random.default_rng(7)
    found = show(drawn(generator, [-1.0, 0.0, 0.0, 0.0], n=10), *amounts(0.01, 0.1))
    assert found.outcome.tolist() == ["worse", "held", "held", "held"]
    better = show(drawn(generator, [1.0, 0.0, 0.0, 0.0], n=10), *amounts(0.01, 0.1))
    assert better.outcome.tolist()[0] == "better"


@given(seed=st.integers(0, 10_000), shift=st.floats(-1, 1), n=st.integers(3, 8), paired=st.booleans())
def test_limits_and_outcomes_say_the_same(seed: int, shift: float, n: int, paired: bool) -> None:
    tolerance, margin = amounts(0.01, 0.06)
    found = show(drawn(np.random.default_rng(seed), shift, n, paired), tolerance, margin)
    slack = 1e-6
    for outcome, low, high, p in zip(found.outcome, found.low, found.high, found.p, strict=True):
        assert low <= high
        if outcome == "worse":
            assert high <= -0.01 + slack
            assert p <= WORSE
        elif outcome == "held":
            assert low >= -0.06 - slack
        elif outcome == "undecided":
            assert low <= -0.06 + slack
            assert high >= -0.01 - slack


def test_seeds_are_stated_only_for_what_is_undecided() -> None:
    generator = np.random.default_rng(8)
    found = drawn(generator, -0.25, n=4)
    shown = show(found, *amounts(0.0, 0.1))
    at = int(np.flatnonzero(shown.outcome == "undecided")[0])
    even, sure = shown.more_seeds[at]
    assert 0 < even < sure < 1000
    assert (shown.more_seeds[shown.outcome != "undecided"] == 0).all()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_order_and_lies_between_none_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_a_spread_is_its_own_or_what_is_usual_around_it() -> None:
    quiet, loud = np.array([[0.5], [0.5], [0.5]]), np.array([[0.3], [0.5], [0.7]])
    alone = usual_spreads([quiet, loud], [1000, 1000], ["a", "b"])
    assert alone[0] == 0
    assert alone[1] >= 0.2
    together = usual_spreads([quiet, loud], [1000, 1000], ["a", "a"])
    assert together[0] == pytest.approx(0.25 * np.log(7 / 3) / np.sqrt(2), rel=0.01)
    assert together[1] == pytest.approx(0.2)
    assert usual_spreads([quiet[:1]], [1000], ["a"]).tolist() == [0.0]


def test_one_comparison_is_students_t_on_log_odds() -> None:
    first, second = np.array([[[0.7], [0.72], [0.75], [0.71]]]), np.array([[[0.8], [0.81], [0.83], [0.83]]])
    at = np.zeros(1, dtype=int)
    found = contrasts([Sides(at, at, first, second, np.array([1e9]), paired=True)], 1)
    shown = show(found, np.zeros(1), np.full(1, 0.5))
    theirs = stats.ttest_rel(special.logit(first[0, :, 0]), special.logit(second[0, :, 0]), alternative="less")
    assert shown.p[0] == pytest.approx(theirs.pvalue, rel=1e-3)
