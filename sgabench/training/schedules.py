"""Gradual pruning: in steps with training between them, during a training, or with rewinding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sgabench.models.layers import prunable_weights
from sgabench.suite.schedules import Gradual, Iterative, OneShot, Rewind
from sgabench.training.building import train_network
from sgabench.training.finetuning import After, FixedSparsity, finetune

# Prunes a network in evaluation mode to a ratio, in place; weights that are zero already count.
Prune = Callable[[nn.Module, float], object]
# Returns the weights and buffers after some epochs of the trial's training.
Early = Callable[[int], Mapping[str, Tensor]]


def follow(
    schedule: OneShot | Iterative | Gradual | Rewind,
    network: nn.Module,
    ratio: float,
    prune: Prune,
    after: After,
    early: Early,
) -> list[dict[str, float]]:
    """Prune a trained network as a schedule says.

    Returns:
        A row for each epoch of all trainings, with the ratio that the network was at.

    Raises:
        Diverged: as `train`.
    """
    if isinstance(schedule, Iterative):
        return _in_steps(schedule, network, ratio, prune, after)
    if isinstance(schedule, Gradual):
        gradual = _Gradually(network, ratio, prune, after, schedule)
        rows = finetune(
            network,
            after,
            schedule.epochs,
            schedule.lr,
            "gradual",
            after_step=gradual.after_step,
            after_exchange=gradual.keep,
        )
        return [{**row, "ratio": reached} for row, reached in zip(rows, gradual.by_epoch, strict=True)]
    if isinstance(schedule, Rewind):
        return _rewinding(schedule, network, ratio, prune, after, early)
    prune(network, ratio)
    return []


def ratio_of_step(ratio: float, step: int, steps: int) -> float:
    """The ratio after some of the steps, each of which keeps the same share of the remaining weights.

    As for lottery tickets (Frankle & Carbin 2019, arXiv 1803.03635) and in SynFlow (Tanaka et al. 2020,
    arXiv 2006.05467, algorithm 1).
    """
    return ratio if step == steps else 1 - float((1 - ratio) ** (step / steps))


def cubic_ratio(ratio: float, step: int, steps: int) -> float:
    """The ratio after some of the steps: Zhu & Gupta 2017 (arXiv 1710.01878, equation 1), starting at 0."""
    return ratio * (1 - (1 - step / steps) ** 3)


def _in_steps(
    schedule: Iterative, network: nn.Module, ratio: float, prune: Prune, after: After
) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for step in range(1, schedule.steps + 1):
        reached = ratio_of_step(ratio, step, schedule.steps)
        prune(network, reached)
        if schedule.epochs and step < schedule.steps:
            trained = finetune(network, after, schedule.epochs, schedule.lr, "iterative", step)
            rows += [{**row, "ratio": reached} for row in trained]
    return rows


class _Gradually:
    """Prunes a network while it is trained, at evenly spaced steps; the last one is as far from the end."""

    def __init__(self, network: nn.Module, ratio: float, prune: Prune, after: After, schedule: Gradual) -> None:
        batch = after.trial.optimizer.settings["training"]["batch_size"]
        self._network = network
        self._ratio = ratio
        self._prune = prune
        self._excluded = after.excluded
        self._steps = schedule.steps
        self._each_epoch = len(after.data.train) // batch
        self._total = schedule.epochs * self._each_epoch
        self._trained = self._done = 0
        self._sparsity = FixedSparsity(network, after.excluded)
        self.by_epoch: list[float] = []

    def keep(self) -> None:
        """Set the pruned weights to zero again."""
        self._sparsity.apply()

    def after_step(self) -> None:
        """After a training step: prune if it is due, and keep zeros."""
        self._trained += 1
        due = min(self._steps, self._trained * (self._steps + 1) // self._total)
        self.keep()
        if due > self._done:
            self._done = due
            pruned = copy.deepcopy(self._network).eval()  # a score may change it, the training must not notice
            with torch.enable_grad():
                self._prune(pruned, cubic_ratio(self._ratio, due, self._steps))
            _copy_zeros(pruned, self._network, self._excluded)
            self._sparsity = FixedSparsity(self._network, self._excluded)
        if self._trained % self._each_epoch == 0:
            self.by_epoch.append(cubic_ratio(self._ratio, self._done, self._steps))


def _rewinding(
    schedule: Rewind, network: nn.Module, ratio: float, prune: Prune, after: After, early: Early
) -> list[dict[str, float]]:
    """Lottery tickets (Frankle et al. 2020, arXiv 1912.05671), or learning rate rewinding (Renda et al. 2020,
    arXiv 2003.02389): both train with the batches and the learning rates of the repeated epochs.
    """
    epochs = range(schedule.to, after.trial.optimizer.settings["training"]["epochs"])
    rows: list[dict[str, float]] = []
    for step in range(1, schedule.steps + 1):
        reached = ratio_of_step(ratio, step, schedule.steps)
        prune(network, reached)
        if schedule.restore == "weights":
            pruned = copy.deepcopy(network)
            network.load_state_dict(early(schedule.to))
            _copy_zeros(pruned, network, after.excluded)
        sparsity = FixedSparsity(network, after.excluded)
        for parameter in network.parameters():
            parameter.grad = None
        trained = train_network(
            network,
            after.trial,
            after.data,
            after.precision,
            after.on_progress,
            epochs=epochs,
            after_step=sparsity.apply,
        )
        rows += [{**row, "ratio": reached} for row in trained.history]
    return rows


@torch.no_grad()
def _copy_zeros(pruned: nn.Module, network: nn.Module, excluded: Any) -> None:
    weights = prunable_weights(network, excluded)
    for name, weight in prunable_weights(pruned, excluded).items():
        weights[name].masked_fill_(weight == 0, 0.0)
