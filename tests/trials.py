"""Trials of a suite, run in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from sgabench.running.task import Task
from sgabench.running.trial import run_trial
from sgabench.store.files import Folder
from sgabench.store.store import Record
from sgabench.suite.plan import make_plan, remaining
from sgabench.suite.resolving import load_suite


class AtTheFirstStep(torch.optim.SGD):
    """Tells when a training begins: building is also done before one, to find bad input."""

    def __init__(self, parameters: Any, lr: float, begins: Callable[[], None]) -> None:
        super().__init__(parameters, lr=lr)
        self._begins: Callable[[], None] | None = begins

    def step(self, closure: Any = None) -> Any:
        begins, self._begins = self._begins, None
        if begins is not None:
            begins()
        return super().step(closure)


def tasks(suite: Path, tmp_path: Path, stored: Sequence[Record] = ()) -> list[Task]:
    plan = make_plan(load_suite(suite), tmp_path)
    left = remaining(plan, {record.key: record.status for record in stored})
    trained = {record.key: record for record in stored if record.kind == "trial" and record.status == "done"}
    (tmp_path / "weights").mkdir(exist_ok=True)
    return [
        Task(trial, trained.get(trial.key), plan.suite.measurement, Folder(tmp_path), tmp_path, False, "cpu", 1)
        for trial in left
    ]


def run_one(task: Task) -> list[Record]:
    events: list[Any] = []
    run_trial(task, events.append, lambda: contextlib.nullcontext(True))
    return [event for event in events if isinstance(event, Record)]


def by_kind(records: Sequence[Record], kind: str) -> list[Record]:
    return [record for record in records if record.kind == kind]


def without_times(record: Record) -> dict[str, Any]:
    timed = ("seconds", "_s", "speedup", "memory")
    result = {name: value for name, value in record.result.items() if not name.endswith(timed)}
    result.pop("theoretical_speedup", None)
    return result
