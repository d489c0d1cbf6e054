"""What `sgabench run` spends its time on, trial by trial: for overhead.py and time_to_verdict.py."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from sgabench.measuring import sweep
from sgabench.running import rehearsal, trial
from sgabench.store.store import Record
from sgabench.training import evaluation

TRAINING, EVALUATION, SPEED, PRUNING, REHEARSAL = "training", "evaluation", "speed", "pruning", "rehearsal"
PARTS = (TRAINING, EVALUATION, SPEED, PRUNING)
_WATCHED = (
    (sweep, "evaluate_batches", EVALUATION),
    (evaluation, "evaluate_batches", EVALUATION),
    (trial, "speed_of", SPEED),
    (sweep.Sweep, "prune", PRUNING),
    (rehearsal, "rehearse", REHEARSAL),
)


@dataclass
class Stopwatch:
    """Seconds of the parts of a run whose trials are in this process.

    Attributes:
        rows: of each trial its name, its seconds, and those of its parts.
        rehearsed: seconds of rehearsals.
        began, ended: of the first and the last trial, by `time.time`; None: there was none.
    """

    rows: list[tuple[str, float, dict[str, float]]] = field(default_factory=list)
    rehearsed: float = 0.0
    began: float | None = None
    ended: float | None = None
    _seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _inside: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what is run meanwhile."""
        with mock.patch.object(rehearsal, "run_trial", self._trial(rehearsal.run_trial)):
            patches = [
                mock.patch.object(owner, name, self._watched(getattr(owner, name), part))
                for owner, name, part in _WATCHED
            ]
            for patch in patches:
                patch.start()
            try:
                yield
            finally:
                for patch in patches:
                    patch.stop()

    def total(self, part: str) -> float:
        """Seconds of a part, over all trials."""
        return sum(parts.get(part, 0.0) for _, _, parts in self.rows)

    def _watched(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            if self._inside:  # what a rehearsal does is rehearsal
                return function(*arguments, **options)
            self._inside, started = True, time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._inside = False
                seconds = time.perf_counter() - started
                if part == REHEARSAL:
                    self.rehearsed += seconds
                else:
                    self._seconds[part] += seconds

        return watched

    def _trial(self, run: Callable[..., None]) -> Callable[..., None]:
        def timed(task: trial.Task, emit: trial.Emit, alone: trial.Alone, *rest: Any) -> None:
            if self._inside:
                run(task, emit, alone, *rest)
                return
            self.began = self.began or time.time()
            self._seconds.clear()

            def listening(event: Any) -> None:
                if isinstance(event, Record) and event.kind == "trial":
                    self._seconds[TRAINING] += event.result.get("train_seconds", 0.0)
                emit(event)

            started = time.perf_counter()
            run(task, listening, alone, *rest)
            self.rows.append((task.trial.name, time.perf_counter() - started, dict(self._seconds)))
            self.ended = time.time()

        return timed
