"""What is left to run, in trainings, prunings and images."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import TINY, variant

from sgabench.suite.plan import Plan, make_plan, remaining
from sgabench.suite.resolving import load_suite
from sgabench.suite.work import work_of


def plan_of(tmp_path: Path, *changes: tuple[str, str]) -> Plan:
    suite = tmp_path / "tiny.toml"
    suite.write_text(TINY)
    for old, new in changes:
        variant(suite, old, new)
    return make_plan(load_suite(suite), Path("data"))


def test_a_new_suite_is_trainings_and_prunings(plan: Plan) -> None:
    work = work_of(plan.trials, {})
    assert str(work) == "4 trainings and 4 prunings"
    assert (work.train_images, work.test_images) == (4 * 256, 8 * 360)
    assert work.images == "1,024 images forward and backward, 2,880 test images forward"


def test_what_is_trained_is_only_pruned(plan: Plan) -> None:
    stored = {trial.key: "done" for trial in plan.trials}
    stored |= {plan.trials[0].cells[0].key: "done"}
    work = work_of(remaining(plan, stored), stored)
    assert str(work) == "3 prunings of stored networks"
    assert (work.train_images, work.test_images) == (0, 3 * 360)
    assert work.images == "1,080 test images forward"
    stored |= {cell.key: "done" for _, cell in plan.cells()}
    assert str(work_of(remaining(plan, stored), stored)) == "4 probes of stored networks"  # of weights, in every suite
    stored |= {probe.key: "done" for trial in plan.trials for probe in trial.probes}
    assert not work_of(remaining(plan, stored), stored).any


def test_probes_that_evaluate_are_counted(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ("[[pruners]]", '[[probes]]\nname = "corruptions"\nstrengths = [1, 5]\n\n[[pruners]]'))
    assert work_of(plan.trials, {}).test_images == 8 * (1 + 8 * 2) * 360


def test_one_is_one(plan: Plan) -> None:
    assert str(work_of(plan.trials[:1], {})) == "1 training and 1 pruning"


def test_a_probe_of_a_training_repeats_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ("[[pruners]]", '[[probes]]\nname = "step-norm"\n\n[[pruners]]'))
    stored = {key: "done" for trial in plan.trials for key in (trial.key, *(cell.key for cell in trial.cells))}
    assert str(work_of(remaining(plan, stored), stored)) == "4 trainings"


def test_fine_tuning_is_training(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ('name = "magnitude"', 'name = "magnitude"\nfinetune = {epochs = 3}'))
    assert work_of(plan.trials, {}).train_images == 4 * (1 + 3) * 256


@pytest.mark.parametrize(
    ("optimizer", "passes"),
    [
        ('"sam:SGD"', 2),
        ('"cram:Adam"', 2),
        ('"torch:LBFGS"\nmax_iter = 4', 5),
        ('"torch:LBFGS"', 21),
        ('"sampled:SGD"', 1),
    ],
)
def test_every_pass_of_a_step_is_work(tmp_path: Path, optimizer: str, passes: int) -> None:
    plan = plan_of(tmp_path, ('name = "adam"', f"name = {optimizer}"))
    assert work_of(plan.trials[:2], {}).train_images == 2 * passes * 256
    assert work_of(plan.trials[2:], {}).train_images == 2 * 256


def test_many_evaluations_of_a_large_test_split_are_reported(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ("ratios = [0.5]", "ratios = [0.5, 0.7, 0.9]"))
    assert "most of the time is evaluation, which a smaller test_size" in work_of(plan.trials, {}).images
    plan = plan_of(
        tmp_path,
        ("ratios = [0.5]", "ratios = [0.5, 0.7, 0.9]"),
        ("train_size = 256", "train_size = 256\ntest_size = 50"),
    )
    assert "test_size" not in work_of(plan.trials, {}).images


def test_the_sizes_of_a_folder_are_not_known(plan: Plan) -> None:
    from dataclasses import replace

    unknown = [replace(trial, dataset=replace(trial.dataset, tags={})) for trial in plan.trials]
    assert work_of(unknown, {}).images == ""
