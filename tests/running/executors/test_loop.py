"""The loop of all executors, with nodes and a clock that are simulated, as `benchmarks/scaling.py` has them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from contents import contents

from sgabench.running.executors.executor import Began, Finished, OnEvent, Waiting, WorkerDied
from sgabench.running.executors.loop import run_tasks
from sgabench.running.listening import Listener
from sgabench.running.task import Task
from sgabench.running.worklist import WorkList
from sgabench.store.files import Folder
from sgabench.store.locks import Claims
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan, TrialPlan

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def scaling() -> Any:
    spec = importlib.util.spec_from_file_location("scaling", ROOT / "benchmarks" / "scaling.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["scaling"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lost", [0, 3])
def test_many_nodes_are_busy_until_the_end_and_every_trial_is_done_once(
    scaling: Any, tmp_path: Path, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "LOSS", 0.2)
    found = scaling.simulate(8, 96, lost, tmp_path / "results")
    assert found["over_lower_bound"] < 0.05
    assert (found["trials"], found["records"], found["stored"], found["finished"]) == (96, 192, 192, 96)
    assert found["lost"] == lost
    assert len(contents(tmp_path / "results")[0]) == 192
    assert not list((tmp_path / "results" / "claims").glob("*.lock"))


class Slow:
    """One worker, which takes an hour for a trial, of which it waits for others for the first half."""

    where = ""

    def __init__(self) -> None:
        self.now = 0.0
        self.ended: list[str] = []
        self._task: Task | None = None
        self._story: list[tuple[float, Any]] = []

    def room(self) -> int:
        return int(self._task is None)

    def submit(self, task: Task, claim: int) -> None:
        self._task = task
        self._story = [(0, Began()), (60, Waiting(True)), (1800, Waiting(False)), (1800, Finished())]

    def listen(self, on_event: OnEvent, seconds: float) -> None:
        after, event = self._story[0]
        if seconds < after:
            self.now += seconds
            self._story[0] = (after - seconds, event)
            return
        self.now += after
        del self._story[0]
        task = self._task
        assert task is not None
        if isinstance(event, Finished | WorkerDied):
            self._task = None
        on_event(0, task, event)

    def end(self, task: Task, cause: str) -> None:
        assert task is self._task
        self.ended.append(cause)
        self._story = [(1, WorkerDied(cause))]

    def stop(self) -> None:
        assert self._task is None


@pytest.mark.parametrize(("minutes", "events"), [(None, "BF"), (40.0, "BF"), (31.5, "BF"), (30.5, "BWF")])
def test_time_in_which_a_trial_waits_does_not_count(
    plan: Plan, store: Store, tmp_path: Path, minutes: float | None, events: str
) -> None:
    def task(trial: TrialPlan, trained: Record | None) -> Task:
        return Task(trial, trained, plan.suite.measurement, Folder(tmp_path), tmp_path, False, "cpu", 1)

    seen: list[str] = []

    def on_event(worker: int, task: Task, event: Any) -> None:
        seen.append(type(event).__name__[0])
        if isinstance(event, WorkerDied):
            trial = task.trial
            store.put(Record(trial.key, "trial", None, "failed", trial.labels(), {}, {"device": "cpu"}))

    executor = Slow()
    with Claims(store.folder) as claims:
        work = WorkList(plan.trials[:1], {}, store, claims, task, Listener())
        run_tasks(work, executor, on_event, minutes, lambda: executor.now)
    assert "".join(seen) == events
    assert executor.ended == [f"--trial-timeout: not finished after {minutes or 0:g} minutes"] * events.count("W")
