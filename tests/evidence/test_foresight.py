"""What a suite can find: against the power of a t-test, and in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sgabench.evidence.decisions import CURVES
from sgabench.evidence.foresight import foresight, smallest_difference
from sgabench.suite.plan import Plan


def test_the_smallest_difference_is_found_in_about_four_of_five_cases() -> None:
    n, spread = 5, 0.4
    freedom = 1.4 * (n - 1) + 2
    critical = stats.t.ppf(1 - CURVES / 4 / 2, freedom)
    found = smallest_difference(n, 4, spread)
    power = stats.nct.sf(critical, freedom, found / (spread / np.sqrt(n)))
    assert power == pytest.approx(0.8, abs=0.03)


def test_more_seeds_find_less_and_more_comparisons_find_less_easily() -> None:
    assert smallest_difference(10, 4, 0.4) < smallest_difference(5, 4, 0.4) < smallest_difference(5, 8, 0.4)
    assert smallest_difference(5, 4, 0.4, share=0.2) > smallest_difference(5, 4, 0.4)


def test_it_is_reported_in_points(plan: Plan) -> None:
    five = replace(plan, suite=replace(plan.suite, seeds=tuple(range(5))))
    assert foresight(five).startswith("with 5 seeds and 1 comparison of whole curves, differences of about ")
    assert "a typical spread" in foresight(five)
    assert foresight(plan) == "with 2 seeds there is no verdict; it takes 3"
    alone = replace(plan, suite=replace(plan.suite, optimizers=plan.suite.optimizers[:1]))
    assert foresight(alone) == "one optimizer: nothing to compare"


def test_plan_shows_it(tiny: Path, sgabench) -> None:  # type: ignore[no-untyped-def]
    tiny.write_text(tiny.read_text().replace("seeds = [0, 1]", "seeds = {from = 5, to = 8}"))
    done = sgabench("plan", str(tiny))
    assert done.returncode == 0
    assert "looks at 5, 8 seeds; 0 were taken" in done.stdout
    assert "are found in four of five cases" in done.stdout
