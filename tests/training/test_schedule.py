"""Learning rates over the steps of a training."""

from __future__ import annotations

import pytest

from sgabench.suite.tables import Recipe
from sgabench.training.schedule import learning_rate_factor


@pytest.mark.parametrize(
    ("schedule", "at_start", "at_middle", "at_end"),
    [
        ("constant", 1, 1, 1),
        ("cosine", 1, 0.5, 0),
        ("linear", 1, 0.5, 0.001),
        ("wsd", 1, 1, 0.005),
        ("step", 1, 0.1, 0.01),
        ("one-cycle", 0.04, 0.811, 1e-4),
    ],
)
def test_schedules(schedule: str, at_start: float, at_middle: float, at_end: float) -> None:
    factor = learning_rate_factor(Recipe(epochs=10, schedule=schedule), steps_per_epoch=100)  # type: ignore[arg-type]
    assert factor(0) == pytest.approx(at_start, abs=1e-3)
    assert factor(500) == pytest.approx(at_middle, abs=1e-3)
    assert factor(999) == pytest.approx(at_end, abs=1e-3)


def test_one_cycle_peaks_at_the_base_learning_rate() -> None:
    factor = learning_rate_factor(Recipe(epochs=10, schedule="one-cycle"), steps_per_epoch=100)
    values = [factor(step) for step in range(1000)]
    assert max(values) == values[300] == pytest.approx(1)


def test_warm_up_rises_evenly_to_the_base_learning_rate() -> None:
    factor = learning_rate_factor(Recipe(epochs=10, warmup_epochs=1), steps_per_epoch=9)
    assert [factor(step) for step in range(10)] == pytest.approx([i / 10 for i in range(1, 10)] + [1])


def test_warmup_stable_decay_begins_to_fall_at_the_given_point() -> None:
    factor = learning_rate_factor(Recipe(epochs=10, schedule="wsd", cooldown=0.5, warmup_epochs=2), 100)
    assert factor(100) == pytest.approx(0.5, abs=0.01)
    assert {factor(step) for step in range(200, 601)} == {1.0}
    assert factor(800) == pytest.approx(0.5)
