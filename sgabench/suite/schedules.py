"""Schedules of pruning: at once, in steps, during a training, or repeatedly from an early point of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sgabench.suite.rules import Table

MAX_STEPS = 1000
_LR: Any = Field(strict=True, default=None, gt=0, description="Learning rate; default: a tenth of the optimizer's.")


class OneShot(Table):
    """All at once: the default."""

    kind: Literal["one-shot"]


class Iterative(Table):
    """In steps, each of which keeps the same share of the remaining weights; scores are computed again before each."""

    kind: Literal["iterative"]
    steps: int = Field(strict=True, ge=2, le=MAX_STEPS, description="Steps of the pruning.")
    epochs: int = Field(strict=True, ge=0, le=100_000, description="Passes over the training split between two steps.")
    lr: float | None = _LR


class Gradual(Table):
    """During further training: fast at first, then slower and slower."""

    kind: Literal["gradual"]
    epochs: int = Field(strict=True, ge=1, le=100_000, description="Passes over the training split.")
    steps: int = Field(strict=True, default=10, ge=1, le=MAX_STEPS, description="Steps of the pruning.")
    lr: float | None = _LR


class Rewind(Table):
    """Back to an early point of the training, and trained again from there with the remaining weights."""

    kind: Literal["rewind"]
    to: int = Field(strict=True, default=0, ge=0, description="Epochs of the training to keep.")
    steps: int = Field(strict=True, default=1, ge=1, le=MAX_STEPS, description="Rounds of pruning and training.")
    restore: Literal["weights", "rates"] = Field(
        default="weights", description="What is rewound: weights and learning rates, or the rates alone."
    )


Schedule = Annotated[OneShot | Iterative | Gradual | Rewind, Field(discriminator="kind")]


def effective(schedule: OneShot | Iterative | Gradual | Rewind | None) -> dict[str, Any] | None:
    """The options that have an effect, as JSON values; None: pruned at once."""
    if schedule is None or isinstance(schedule, OneShot):
        return None
    values = schedule.model_dump(mode="json")
    if isinstance(schedule, Iterative) and schedule.epochs == 0:
        values.pop("lr")
    return values
