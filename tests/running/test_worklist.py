from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import ENVIRONMENT, fill, variant

from sgabench.running.listening import Listener
from sgabench.running.part import of_cell, of_training
from sgabench.running.task import Task
from sgabench.running.worklist import WorkList
from sgabench.store.files import Folder
from sgabench.store.locks import Claims
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan, TrialPlan, make_plan, remaining
from sgabench.suite.resolving import load_suite


@dataclass
class Watcher(Listener):
    """What a run learns about the others."""

    names: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def elsewhere(self, trial: TrialPlan) -> None:
        self.names.append(trial.name)

    def waiting(self, trials: int) -> None:
        self.numbers.append(trials)


@dataclass
class Run:
    """One of several runs on a results folder."""

    store: Store
    claims: Claims
    watcher: Watcher
    work: WorkList


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "results", create=True) as opened:
        yield opened


@pytest.fixture
def plan(tiny: Path, tmp_path: Path) -> Plan:
    return make_plan(load_suite(variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.9]")), tmp_path)


def begin(store: Store, plan: Plan) -> Run:
    found = store.outcomes()
    left = remaining(plan, {key: status for key, (status, _) in found.items()})
    failed = {key: at for key, (status, at) in found.items() if status == "failed"}
    claims, watcher = Claims(store.folder), Watcher()

    def task(trial: TrialPlan, trained: Record | None) -> Task:
        return Task(trial, trained, plan.suite.measurement, Folder(store.folder), store.folder, False, "cpu", 1)

    return Run(store, claims, watcher, WorkList(left, failed, store, claims, task, watcher))


def test_each_trial_is_handed_out_once(store: Store, plan: Plan) -> None:
    first, second = begin(store, plan), begin(store, plan)
    taken = [run.work.take() for run in (first, second, second, first)]
    assert [task.trial.key for task in taken if task] == [trial.key for trial in plan.trials]
    assert first.work.take() is None
    assert (first.work.open, first.watcher.numbers) == (2, [2])


def test_a_trial_that_another_run_has_done_is_left_out(store: Store, plan: Plan) -> None:
    run = begin(store, plan)
    fill(store, plan)
    for trial in plan.trials[:2]:
        store.remove([*(probe.key for probe in trial.probes)])
        for probe in trial.probes:
            store.put(Record(probe.key, "probe", trial.key, "done", trial.labels(), {}, ENVIRONMENT))
    task = run.work.take()
    assert task is not None
    assert task.trial.key == plan.trials[2].key
    assert run.watcher.names == [trial.name for trial in plan.trials[:2]]
    assert task.trial.cells == ()
    assert task.trained is not None
    assert task.trained.result["top1"] == 0.75


def test_what_another_run_left_is_taken_over(store: Store, plan: Plan) -> None:
    first, second = begin(store, plan), begin(store, plan)
    task = first.work.take()
    assert task is not None
    trial = task.trial
    store.put(Record(trial.key, "trial", None, "done", trial.labels(), {}, ENVIRONMENT, {"top1": 0.5}))
    cell = trial.cells[0]
    store.put(Record(cell.key, "cell", trial.key, "done", trial.labels(cell), {}, ENVIRONMENT, {"top1": 0.5}))
    first.claims.__exit__()  # as when its process dies
    rest = second.work.take()
    assert rest is not None
    assert rest.trial.key == trial.key
    assert [cell.ratio for cell in rest.trial.cells] == [0.9]
    assert rest.trained is not None


def test_what_failed_before_is_tried_again_and_what_fails_meanwhile_is_not(store: Store, plan: Plan) -> None:
    for trial in plan.trials[:2]:
        store.put(of_training(trial).failed(ENVIRONMENT, "long ago"))
    first, second = begin(store, plan), begin(store, plan)
    task = first.work.take()
    assert task is not None
    assert task.trial.key == plan.trials[0].key
    store.put(of_training(task.trial).failed(ENVIRONMENT, "again"))
    assert first.work.rest(task) is None
    first.work.release(task)
    other = second.work.take()
    assert other is not None
    assert other.trial.key == plan.trials[1].key
    assert second.watcher.names == [plan.trials[0].name]
    later = begin(store, plan).work.take()
    assert later is not None
    assert later.trial.key == plan.trials[0].key


def test_after_a_cell_that_failed_the_others_are_left(store: Store, plan: Plan) -> None:
    run = begin(store, plan)
    task = run.work.take()
    assert task is not None
    trial = task.trial
    store.put(Record(trial.key, "trial", None, "done", trial.labels(), {}, ENVIRONMENT, {"top1": 0.5}))
    store.put(of_cell(trial, trial.cells[0]).failed(ENVIRONMENT, "killed"))
    rest = run.work.rest(task)
    assert rest is not None
    assert [cell.ratio for cell in rest.trial.cells] == [0.9]
    assert rest.trial.probes == trial.probes
