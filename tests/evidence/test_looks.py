"""Looks: planned, paid for, kept, and reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import ENVIRONMENT

from sgabench.errors import InputError
from sgabench.evidence.leaderboard import make_tables
from sgabench.evidence.looks import (
    Looks,
    looks_of,
    notes,
    path_of,
    planned_looks,
    question_of,
    read_looks,
    seen,
    take,
    write_looks,
)
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite

SUITE = """
seeds = {from = 5, to = 20}
ratios = [0.5, 0.8]
datasets = [{name = "digits"}]
models = [{name = "resnet8"}]
pruners = [{name = "magnitude"}]

[[optimizers]]
name = "adam"

[[optimizers]]
name = "adam"
label = "good"
lr = 0.02

[[optimizers]]
name = "adam"
label = "twin"
lr = 0.03
"""
MEANS = {"adam": 0.5, "good": 0.9, "twin": 0.5}
NOISE = {"adam": 0.0, "good": 0.1, "twin": 0.15}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    path = tmp_path / "rounds.toml"
    path.write_text(SUITE)
    return make_plan(load_suite(path), Path("data"))


@pytest.fixture
def fill(tmp_path: Path) -> Callable[[Plan], Path]:
    """Store what each trial of a plan gives: the same numbers whenever it is asked for."""

    def put(plan: Plan) -> Path:
        results = tmp_path / "results"
        with Store(results, create=True) as store:
            for trial in plan.trials:
                name = trial.optimizer.label
                chance = np.random.default_rng(100 * trial.seed + sorted(MEANS).index(name))
                result = {"top1": 0.95, "loss": 1.0, "classes": 10, "test_images": 1000, "seconds": 60.0}
                store.put(
                    Record(trial.key, "trial", None, "done", trial.labels(), trial.description(), ENVIRONMENT, result)
                )
                for cell in trial.cells:
                    odds = np.log(MEANS[name] / (1 - MEANS[name])) + NOISE[name] * chance.normal()
                    labels = trial.labels(cell)
                    pruned = {"top1": float(1 / (1 + np.exp(-odds))), "loss": 1.0}
                    store.put(
                        Record(cell.key, "cell", trial.key, "done", labels, cell.description(), ENVIRONMENT, pruned)
                    )
        return results

    return put


def look(plan: Plan, looks: Looks, fill: Callable[[Plan], Path]) -> Looks:
    part = looks.restrict(plan, coming=True)
    with Store(fill(part)) as store:
        return take(looks, make_tables(store, part, looks=looks).comparisons, part)


def test_looks_grow_and_end_at_the_last_seed() -> None:
    assert planned_looks(5, 30) == (5, 8, 13, 21, 30)
    assert planned_looks(3, 30) == planned_looks(5, 30)  # three seeds err too often to be looked at on the way
    assert planned_looks(3, 4) == (4,)
    assert planned_looks(8, 13) == (8, 13)
    assert planned_looks(5, 6) == (5, 6)
    for last in range(3, 200):
        looks = planned_looks(3, last)
        assert looks[-1] == last
        assert list(looks) == sorted(set(looks))


def test_only_open_questions_get_more_seeds_and_what_is_decided_stays(plan: Plan, fill: Callable[[Plan], Path]) -> None:
    looks = looks_of(fill(replace(plan, trials=())), plan.suite)
    assert looks is not None
    assert len(looks.restrict(plan, coming=True).trials) == 15  # three optimizers, five seeds
    first = look(plan, looks, fill)
    (decided,) = first.taken[0].decided
    assert (decided.first, decided.outcome, decided.n_paired) == ("good", "better", 5)
    assert decided.level <= 0.04 / len(looks.planned)
    assert {part.optimizer: part.open for part in first.taken[0].given} == {"adam": True, "good": False, "twin": True}
    second = first.restrict(plan, coming=True)
    seeds = {name: sum(t.optimizer.label == name for t in second.trials) for name in MEANS}
    assert seeds == {"adam": looks.planned[1], "good": 5, "twin": looks.planned[1]}
    write_looks(first, fill(second), plan.suite)
    with Store(fill(second)) as store:
        tables = make_tables(store, plan)  # as of the last look, whatever is stored beyond it
    curves = tables.curves.set_index("optimizer")
    assert curves.loc["good", "outcome"] == "better"
    assert curves.loc["good", "difference_low"] == decided.difference_low
    assert set(tables.leaderboard["n"]) == {5}
    assert "1 of" in tables.notes[0]


def test_rounds_end_when_nothing_is_open(plan: Plan, fill: Callable[[Plan], Path]) -> None:
    looks = looks_of(fill(replace(plan, trials=())), plan.suite)
    assert looks is not None
    while not looks.finished:
        looks = look(plan, looks, fill)
        assert len(looks.taken) <= len(looks.planned)
    outcomes = {row.first: row.outcome for taken in looks.taken for row in taken.decided}
    assert outcomes["good"] == "better"
    assert outcomes.get("twin") in ("same", None)
    assert looks.restrict(plan, coming=True) == looks.restrict(plan)


def test_looks_are_kept_and_another_question_has_its_own(plan: Plan, tmp_path: Path) -> None:
    looks = Looks(question=question_of(plan.suite), planned=(3, 5))
    write_looks(looks, tmp_path, plan.suite)
    assert read_looks(tmp_path, plan.suite) == looks
    other = replace(plan.suite, optimizers=plan.suite.optimizers[:2])
    assert read_looks(tmp_path, other) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', '{"question": "x", "planned": [0]}', "\x00"])
def test_a_damaged_file_is_one_line(plan: Plan, tmp_path: Path, content: str) -> None:
    path = path_of(tmp_path, plan.suite)
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InputError, match=r"looks\.json.*remove the file to forget"):
        read_looks(tmp_path, plan.suite)


def test_unplanned_looks_are_reported_with_what_they_cost(plan: Plan) -> None:
    suite = replace(plan.suite, rounds=None, seeds=(0, 1, 2))
    once = seen(None, suite)
    assert notes(once) == ()
    assert seen(once, suite) == once
    twice = seen(once, replace(suite, seeds=(0, 1, 2, 3, 4)))
    (note,) = notes(twice)
    assert "looked at with 3 and 5 seeds" in note
    assert "up to 10 %, not 5 %" in note
