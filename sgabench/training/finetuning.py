"""Training after pruning: weights that are zero stay zero."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import nn

from sgabench.models.layers import prunable_weights
from sgabench.suite.plan import TrialPlan
from sgabench.suite.tables import Recipe
from sgabench.system.seeds import derive_seed
from sgabench.training.building import build_optimizer, seeded
from sgabench.training.capture import capture_on
from sgabench.training.data import Data
from sgabench.training.distillation import Teacher
from sgabench.training.loop import train
from sgabench.training.progress import Progress


@dataclass(frozen=True)
class After:
    """The common context of trainings of a trial's pruned networks.

    Attributes:
        trial: its optimizer, its batches and its seed.
        data: on the networks' device.
        precision: fp32 or bf16.
        excluded: names of modules that are not pruned.
        on_progress: called about twice a second.
    """

    trial: TrialPlan
    data: Data
    precision: str
    excluded: Collection[str]
    on_progress: Callable[[Progress], None]


def finetune(
    network: nn.Module,
    after: After,
    epochs: int,
    lr: float | None,
    *part: str | int,
    teacher: Teacher | None = None,
    after_step: Callable[[], None] | None = None,
    after_exchange: Callable[[], None] | None = None,
) -> list[dict[str, float]]:
    """Continue to train a pruned network with its trial's optimizer and batches; returns a row per epoch.

    Args:
        network: changed in place.
        after: the context of its trial.
        epochs: passes over the training split.
        lr: constant; None: a tenth of the optimizer's.
        part: number of the training among several of one network, so that each sees other batches.
        teacher: that it learns from in addition to the labels.
        after_step: called after every step; None: weights that are zero now are set to zero again.
        after_exchange: as for `train`.

    Raises:
        Diverged: as `train`.
    """
    trial = after.trial
    recipe = Recipe.model_validate(trial.optimizer.settings["training"]).model_copy(
        update={
            "epochs": epochs,
            "schedule": "constant",
            "warmup_epochs": 0.0,
            "weight_averaging": "off",
        }
    )
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    length = {"steps_per_epoch": len(after.data.train) // recipe.batch_size, "epochs": epochs}
    drawn = derive_seed(trial.seed, "optimizer", "fine-tuning", *part)
    optimizer = build_optimizer(trial.optimizer, network, drawn, **length)
    for group in optimizer.param_groups:
        group["lr"] = lr if lr is not None else group["lr"] / 10
    seed = derive_seed(trial.seed, "fine-tuning", *part)
    device = after.data.device.type
    with seeded(seed, device):
        training = train(
            network,
            optimizer,
            after.data,
            recipe,
            seed,
            precision=after.precision,
            after_step=after_step or FixedSparsity(network, after.excluded).apply,
            on_progress=after.on_progress,
            capture=capture_on(device),
            teacher=teacher,
            after_exchange=after_exchange,
        )
    return training.history


class FixedSparsity:
    """Remembers which weights are zero and sets them to zero again after an optimizer's step.

    Momentum and weight decay move pruned weights even where gradients are masked, so the weights themselves are reset
    after the step.

    Args:
        network: a pruned network. Its weights may be moved and changed, not replaced.
        excluded: names of weights or modules that were not pruned.
    """

    def __init__(self, network: nn.Module, excluded: Collection[str] = ()) -> None:
        weights = list(prunable_weights(network, excluded).values())
        zeros = [weight.detach() == 0 for weight in weights]
        self._zeros = [(weight, zero) for weight, zero in zip(weights, zeros, strict=True) if bool(zero.any())]

    @torch.no_grad()
    def apply(self) -> None:
        """Set the remembered weights to zero."""
        for weight, zero in self._zeros:
            weight.masked_fill_(zero, 0.0)
