"""Estimate the time left of a run from the time that its parts have taken so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from sgabench.store.store import Record
from sgabench.suite.plan import CellPlan, TrialPlan

if TYPE_CHECKING:
    from sgabench.training.progress import Progress

Kind = tuple[str, ...]  # of parts that take about as long; tried from the most to the least similar
# For a hundred thousand trials, the estimate takes longer than a record: it may use this part of the time.
SHARE = 0.01


class Forecast:
    """The time left of a run.

    A training is expected to take as long as those of the same data set, model and optimizer so far, or else of the
    same data set and model, or all; a pruning likewise, by its pruner. Without any, there is no estimate.

    Args:
        left: the trials to run, each with only what is left of it.
        trained: keys of trials whose network is stored.
        jobs: trials at the same time.
        now: seconds.
    """

    def __init__(
        self,
        left: Sequence[TrialPlan],
        trained: Collection[str],
        jobs: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._left = {trial.key: trial for trial in left}
        self._trained = set(trained)
        self._jobs = jobs
        self._now = now
        self._spent: dict[Kind, tuple[float, int]] = {}  # seconds and number of parts
        self._since: dict[int, float] = {}  # when each worker's present part began
        self._running: dict[int, str] = {}  # the trial that each worker is training
        self._ends: dict[str, float] = {}  # when each running training will end
        self._done: set[str] = set()
        self._started = now()
        self._estimate: tuple[float | None, float] = (None, now())  # seconds left, and when they were estimated
        self._next = now()  # when to estimate again

    def progressed(self, worker: int, trial: TrialPlan, progress: Progress) -> None:
        """A training reports the time that it will take."""
        self._since.setdefault(worker, self._started)
        self._running[worker] = trial.key
        self._ends[trial.key] = self._now() + progress.seconds_left

    def stored(self, worker: int, trial: TrialPlan, record: Record) -> None:
        """A part has ended: learn the time that it took."""
        now = self._now()
        spent = now - self._since.get(worker, self._started)
        self._since[worker] = now
        self._done.add(record.key)
        if record.kind == "trial":
            self._over(worker)
            # a resumed training began before this run
            self._note(_of_training(trial), max(spent, record.result.get("train_seconds", 0.0)))
        elif record.kind == "cell" and record.status == "done":
            self._note(_of_pruning(trial, str(record.labels["pruner"])), spent)

    def finished(self, worker: int | None, trial: TrialPlan) -> None:
        """A trial has ended, here or elsewhere."""
        self._left.pop(trial.key, None)
        if worker is not None:
            self._since[worker] = self._now()
            self._over(worker)

    @property
    def seconds(self) -> float | None:
        """The time left of the run; None: it cannot be estimated yet."""
        began = self._now()
        if began < self._next:
            estimate, at = self._estimate
            return None if estimate is None else max(0.0, estimate - (began - at))
        self._estimate = self._sum(), began
        ended = self._now()
        self._next = ended + (ended - began) / SHARE
        return self._estimate[0]

    def _sum(self) -> float | None:
        rest = [self._rest_of(trial) for trial in self._left.values()]
        known = [seconds for seconds in rest if seconds is not None]
        if len(known) < len(rest):
            return None
        return max(sum(known) / self._jobs, max(known, default=0.0))

    def _rest_of(self, trial: TrialPlan) -> float | None:
        end = self._ends.get(trial.key)
        parts: list[float | None] = []
        if end is not None:
            parts.append(max(end - self._now(), 0.0))
        elif trial.key not in self._trained and trial.key not in self._done:
            parts.append(self._expected(_of_training(trial)))
        cells: list[CellPlan] = [cell for cell in trial.cells if not cell.stored and cell.key not in self._done]
        parts += [self._expected(_of_pruning(trial, cell.pruner.label)) for cell in cells]
        known = [seconds for seconds in parts if seconds is not None]
        return sum(known) if len(known) == len(parts) else None

    def _over(self, worker: int) -> None:
        self._ends.pop(self._running.pop(worker, ""), None)

    def _note(self, kinds: Sequence[Kind], seconds: float) -> None:
        for kind in kinds:
            spent, number = self._spent.get(kind, (0.0, 0))
            self._spent[kind] = spent + seconds, number + 1

    def _expected(self, kinds: Sequence[Kind]) -> float | None:
        spent = next((self._spent[kind] for kind in kinds if kind in self._spent), None)
        return None if spent is None else spent[0] / spent[1]


def _of_training(trial: TrialPlan) -> list[Kind]:
    dataset, model, optimizer = trial.dataset.label, trial.model.label, trial.optimizer.label
    return [("training", dataset, model, optimizer), ("training", dataset, model), ("training",)]


def _of_pruning(trial: TrialPlan, pruner: str) -> list[Kind]:
    dataset, model = trial.dataset.label, trial.model.label
    return [("pruning", dataset, model, pruner), ("pruning", dataset, model), ("pruning",)]


def duration(seconds: float) -> str:
    """An approximate duration: ``0:40``, ``12 min``, ``3 h 20 min``."""
    if seconds < 100:
        return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
