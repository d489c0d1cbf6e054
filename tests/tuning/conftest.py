"""A suite that tunes in milliseconds a try."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Remembering
from torch import nn

from sgabench.plugins import ImageSpec, models, optimizers
from sgabench.running.options import Options
from sgabench.suite.resolving import Suite, load_suite
from sgabench.tuning.search import Tuned, tune_subjects
from sgabench.tuning.subjects import Settings, find_subjects

QUICK = """
seeds = [0]
training = {epochs = 1, batch_size = 32}

[[datasets]]
name = "digits"
train_size = 64

[[models]]
name = "linear"

[[optimizers]]
name = "sgd"
lr = 0.01

[[pruners]]
name = "magnitude"
"""


@pytest.fixture(autouse=True)
def _plugins() -> None:
    """A model of one layer, and optimizers that cannot be tuned, diverge, or raise."""

    @models.register("linear")
    def linear(images: ImageSpec) -> nn.Module:
        """One layer."""
        return nn.Sequential(nn.Flatten(), nn.Linear(images.channels * images.height * images.width, images.classes))

    @optimizers.register("fixed")
    def fixed(parameters: Any) -> torch.optim.Optimizer:
        """Nothing to set."""
        return torch.optim.SGD(parameters, lr=0.01)

    @optimizers.register("exploding")
    def exploding(parameters: Any, *, lr: float = 1e-3) -> torch.optim.Optimizer:
        """Diverge at every learning rate from 0.001 on."""
        return torch.optim.SGD(parameters, lr=1e38 if lr >= 0.001 else lr)


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., Suite]:
    """Load the quick suite, with the optimizers that are given and with overrides."""

    def load(optimizers: str = "", *overrides: str, name: str = "quick.toml") -> Suite:
        start, end = QUICK.index("[[optimizers]]"), QUICK.index("[[pruners]]")
        path = tmp_path / name
        path.write_text(QUICK[:start] + (optimizers or QUICK[start:end]) + "\n" + QUICK[end:])
        return load_suite(path, overrides)

    return load


@pytest.fixture
def tune(tmp_path: Path) -> Callable[..., list[Tuned]]:
    """Tune a suite in a folder of its own, or in another."""

    def call(
        suite: Suite, tries: int, listener: Remembering | None = None, results: str = "results", **settings: Any
    ) -> list[Tuned]:
        chosen = Settings(tries=tries, **settings)
        subjects = find_subjects(suite, chosen)
        options = Options(tmp_path / results, tmp_path, device="cpu")
        return tune_subjects(subjects, suite, chosen, options, listener or Remembering())[0]

    return call
