"""The progress and the time of a training."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from sgabench.suite.tables import Recipe

PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class Progress:
    """The progress of a training.

    Attributes:
        epoch: finished epochs plus the finished part of the current one.
        loss: mean training loss of the current epoch so far.
        images_per_s: since the start of the training.
        seconds_left: estimated from the speed so far.
    """

    epoch: float
    epochs: int
    loss: float
    images_per_s: float
    seconds_left: float


class Clock:
    """Measures the total time of training steps, synchronized with the device."""

    def __init__(self, device: str, seconds: float = 0.0) -> None:
        self._device = device
        self._finished = seconds
        self._started: float | None = None
        self._reported = 0.0

    def start(self) -> None:
        """Begin a stretch of steps."""
        synchronize(self._device)
        self._started = time.perf_counter()

    def stop(self) -> None:
        """End it."""
        synchronize(self._device)
        self._finished, self._started = self.seconds, None

    @property
    def seconds(self) -> float:
        """All stretches together."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._finished + running

    def time_to_report(self) -> bool:
        """Whether a while has passed since this was last true."""
        now = time.perf_counter()
        if now - self._reported < PROGRESS_SECONDS:
            return False
        self._reported = now
        return True


def synchronize(device: str) -> None:
    """Wait until the device has executed everything launched."""
    if device == "cuda":
        torch.cuda.synchronize()


def progress_of(clock: Clock, recipe: Recipe, epoch: int, step: int, steps: int, loss: float) -> Progress:
    """The progress after some steps of an epoch (counted from 0), with the mean loss of these steps."""
    done = epoch * steps + step
    per_step = clock.seconds / done
    left = (recipe.epochs * steps - done) * per_step
    return Progress(done / steps, recipe.epochs, loss, recipe.batch_size / per_step, left)
