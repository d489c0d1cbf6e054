"""What of a trial's time is neither training nor evaluation: `sgabench run` with a stopwatch in it.

python benchmarks/overhead.py SUITE [OPTION OF RUN ...]

Trials have to run in this process, so `--jobs` is 1. Results go to a folder that is removed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from sgabench.cli import main
from sgabench.measuring import sweep
from sgabench.running import trial
from sgabench.store.store import Record
from sgabench.training import loop as training

PARTS = ("steps", "evaluation", "speed", "pruning")


class Stopwatch:
    """Adds up seconds of functions, and keeps a row for each trial."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.rows: list[tuple[str, float, dict[str, float]]] = []
        self._run = trial.run_trial

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Count what a function takes."""
        function: Callable[..., Any] = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[part] += time.perf_counter() - started

        setattr(owner, name, watched)

    def run_trial(self, task: trial.Task, emit: trial.Emit, alone: trial.Alone) -> None:
        """Run a trial and keep its row."""
        self.seconds.clear()

        def listening(event: Any) -> None:
            if isinstance(event, Record) and event.kind == "trial":
                self.seconds["steps"] += event.result.get("train_seconds", 0.0)
            emit(event)

        started = time.perf_counter()
        self._run(task, listening, alone)
        self.rows.append((task.trial.name, time.perf_counter() - started, dict(self.seconds)))


def measure(arguments: list[str]) -> None:
    """Run, and print a row per trial."""
    stopwatch = Stopwatch()
    for owner in (sweep, training):
        stopwatch.watch(owner, "evaluate_batches", "evaluation")
    stopwatch.watch(trial, "time_inference", "speed")
    stopwatch.watch(sweep.Sweep, "prune", "pruning")
    setattr(trial, "run_trial", stopwatch.run_trial)  # noqa: B010
    with tempfile.TemporaryDirectory() as results:
        try:
            main(["run", *arguments, "--jobs", "1", "--results", results])
        except SystemExit as end:
            if end.code:
                raise
    table = Table("trial", "seconds", *PARTS, "rest", "rest, %")
    for name, seconds, of in stopwatch.rows:
        parts = [of.get(part, 0.0) for part in PARTS]
        rest = seconds - sum(parts)
        table.add_row(
            name, f"{seconds:.1f}", *(f"{part:.2f}" for part in (*parts, rest)), f"{100 * rest / seconds:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    measure(sys.argv[1:])
