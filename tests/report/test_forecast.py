"""The time that is left of a run, by a clock that stands where it is put."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from support import ENVIRONMENT

from sgabench.report.forecast import Forecast, duration
from sgabench.store.store import Kind, Record
from sgabench.suite.plan import CellPlan, Plan, TrialPlan, left_of
from sgabench.training.progress import Progress


@dataclass
class Watch:
    """A clock."""

    at: float = 100.0

    def __call__(self) -> float:
        return self.at


def record(trial: TrialPlan, cell: CellPlan | None = None, **result: Any) -> Record:
    kind: Kind = "trial" if cell is None else "cell"
    key = trial.key if cell is None else cell.key
    return Record(key, kind, None, "done", trial.labels(cell), {}, ENVIRONMENT, result)


def run(forecast: Forecast, watch: Watch, trial: TrialPlan, training: float, pruning: float, worker: int = 0) -> None:
    watch.at += training
    forecast.stored(worker, trial, record(trial))
    for cell in trial.cells:
        watch.at += pruning
        forecast.stored(worker, trial, record(trial, cell))
    forecast.finished(worker, trial)


def test_nothing_is_said_before_there_is_something_to_go_by(plan: Plan) -> None:
    watch = Watch()
    forecast = Forecast(plan.trials, (), 1, watch)
    assert forecast.seconds is None
    watch.at += 7
    forecast.stored(0, plan.trials[0], record(plan.trials[0]))
    assert forecast.seconds is None  # a pruning may take any time


def test_the_rest_takes_as_long_as_what_is_like_it(plan: Plan) -> None:
    """Two optimizers with two seeds, one pruning each."""
    watch = Watch()
    forecast = Forecast(plan.trials, (), 1, watch)
    run(forecast, watch, plan.trials[0], 10, 2)
    assert forecast.seconds == 36
    run(forecast, watch, plan.trials[2], 30, 4)  # of the other optimizer
    assert forecast.seconds == 10 + 30 + 2 * 3
    run(forecast, watch, plan.trials[1], 10, 3)
    run(forecast, watch, plan.trials[3], 30, 3)
    assert forecast.seconds == 0


def test_a_training_that_runs_knows_its_end(plan: Plan) -> None:
    watch = Watch()
    forecast = Forecast(plan.trials[:2], (), 1, watch)
    run(forecast, watch, plan.trials[0], 10, 2)
    forecast.progressed(0, plan.trials[1], Progress(0.5, 1, 0.0, 1.0, 25.0))
    assert forecast.seconds == 27
    watch.at += 5
    assert forecast.seconds == 22


def test_workers_share_what_is_left(plan: Plan) -> None:
    watch = Watch()
    forecast = Forecast(plan.trials, (), 3, watch)
    run(forecast, watch, plan.trials[0], 10, 2, worker=1)
    assert forecast.seconds == 12  # three workers, one trial each
    forecast.finished(None, plan.trials[1])  # another run did it
    assert forecast.seconds == 12


def test_what_is_stored_takes_no_time(plan: Plan) -> None:
    first, second = (trial for trial in plan.trials[:2])
    left = left_of(second, {second.key: "done"})
    assert left is not None
    watch = Watch()
    forecast = Forecast([first, left], {second.key}, 1, watch)
    run(forecast, watch, first, 10, 2)
    assert forecast.seconds == 2


def test_a_training_that_was_taken_up_again_counts_whole(plan: Plan) -> None:
    watch = Watch()
    forecast = Forecast(plan.trials[:2], (), 1, watch)
    watch.at += 1
    forecast.stored(0, plan.trials[0], record(plan.trials[0], train_seconds=50.0))
    watch.at += 2
    forecast.stored(0, plan.trials[0], record(plan.trials[0], plan.trials[0].cells[0]))
    forecast.finished(0, plan.trials[0])
    assert forecast.seconds == 52


def test_failures_say_nothing_about_time(plan: Plan) -> None:
    watch = Watch()
    forecast = Forecast(plan.trials[:2], (), 1, watch)
    watch.at += 10
    forecast.stored(0, plan.trials[0], record(plan.trials[0]))
    broken = replace(record(plan.trials[0], plan.trials[0].cells[0]), status="failed")
    forecast.stored(0, plan.trials[0], broken)
    forecast.finished(0, plan.trials[0])
    assert forecast.seconds is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "0:04"), (99, "1:39"), (720, "12 min"), (3599, "1 h 0 min"), (12_000, "3 h 20 min")]
)
def test_durations_are_as_long_as_they_are_exact(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_sum_over_all_that_is_left_takes_a_small_part_of_the_time(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ticking(Watch):
        def __call__(self) -> float:
            self.at += 1
            return self.at

    forecast = Forecast(plan.trials, (), 1, Ticking())
    sums: list[int] = []
    monkeypatch.setattr(Forecast, "_sum", lambda _: sums.append(1) or 1000.0)
    estimates = [forecast.seconds for _ in range(250)]
    assert len(sums) == 3
    assert (estimates[0], estimates[90]) == (1000, 1000 - 91)  # in between, what was said runs off
