"""The longest trials first, parts of a plan, and what processes get of several GPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contents import contents
from support import variant

from sgabench.errors import InputError
from sgabench.running.options import Options
from sgabench.running.order import Expected
from sgabench.suite.plan import Plan, make_plan, part_of
from sgabench.suite.resolving import load_suite

Run = Callable[..., Any]


def test_what_is_expected_to_take_longest_is_first(tiny: Path, tmp_path: Path) -> None:
    variant(tiny, 'name = "adam"\n', 'name = "adam"\ntraining = {epochs = 2}\n')
    variant(tiny, "[[models]]\n", '[[models]]\nname = "resnet8"\nwidth = 8\nlabel = "wide"\n\n[[models]]\n')
    plan = make_plan(load_suite(variant(tiny, "width = 4", "width = 4\n")), tmp_path)
    expected = Expected(plan.trials, (), Options(data_dir=tmp_path))
    names = [trial.name.removeprefix("digits/") for trial in expected.longest_first(plan.trials[::-1])]
    assert names == [
        f"{model}/{optimizer}/{seed}"
        for model in ("wide", "resnet8")
        for optimizer in ("adam", "stochgradadam")
        for seed in (1, 0)
    ]


def test_what_is_trained_already_is_short(plan: Plan, tmp_path: Path) -> None:
    trained = [plan.trials[0].key]
    ordered = Expected(plan.trials, trained, Options(data_dir=tmp_path)).longest_first(plan.trials)
    assert ordered == [*plan.trials[1:], plan.trials[0]]


def test_what_was_measured_corrects_what_is_expected_of_trials_of_the_same_kind(plan: Plan, tmp_path: Path) -> None:
    expected = Expected(plan.trials, (), Options(data_dir=tmp_path))
    first, second = dict.fromkeys(trial.optimizer.label for trial in plan.trials)
    by_name = {(trial.optimizer.label, trial.seed): trial for trial in plan.trials}
    left = [by_name[first, 1], by_name[second, 1]]
    assert expected.longest_first(left) == left, "equally long by what they compute"
    assert expected.took(by_name[first, 0], 10.0)
    assert expected.longest_first(left) == left, "the pace of all is expected of what nobody has taken"
    assert expected.took(by_name[second, 0], 20.0)
    assert expected.longest_first(left) == left[::-1]
    assert [expected.took(by_name[first, 0], 50.0) for _ in range(6)] == [True, False, True, False, False, False]
    assert expected.longest_first(left) == left


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_parts_are_disjoint_and_together_the_plan(plan: Plan, parts: int) -> None:
    shards = [part_of(plan, (number, parts)).trials for number in range(1, parts + 1)]
    assert sorted(trial.name for shard in shards for trial in shard) == sorted(trial.name for trial in plan.trials)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_a_part_of_nothing_is_refused(plan: Plan) -> None:
    with pytest.raises(InputError, match="--shard 5/5: the suite has only 4 different trials"):
        part_of(plan, (5, 5))


def test_merged_parts_are_a_whole_run(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    assert sgabench("run", tiny, "--results", "whole", "-q").returncode == 0
    for shard in ("1/2", "2/2"):
        done = sgabench("run", tiny, "--shard", shard, "--results", f"part-{shard[0]}")
        assert done.returncode == 0, done.stderr
        assert "2 trainings and 2 prunings to run" in done.stderr
    assert sgabench("merge", "part-1", "part-2", "--results", "merged").returncode == 0
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_other_shards_are_refused(sgabench: Run, tiny: Path, shard: str) -> None:
    done = sgabench("run", tiny, "--shard", shard)
    assert done.returncode == 2
    assert "is not K/N with integers, K from 1 to N" in done.stderr


def test_rounds_of_seeds_have_no_parts(sgabench: Run, tiny: Path) -> None:
    variant(tiny, "seeds = [0, 1]", "seeds = {from = 3, to = 5}")
    done = sgabench("run", tiny, "--shard", "1/2")
    assert (done.returncode, done.stderr.startswith("error: --shard: rounds of seeds")) == (2, True)
