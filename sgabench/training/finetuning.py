"""Training after pruning: what is zero stays zero."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import nn

from sgabench.models.layers import prunable_layers, weight_of
from sgabench.suite.plan import TrialPlan
from sgabench.suite.tables import Finetuning, Recipe
from sgabench.system.seeds import derive_seed
from sgabench.training.building import build_optimizer, seeded
from sgabench.training.capture import capture_on
from sgabench.training.data import Data
from sgabench.training.loop import train
from sgabench.training.progress import Progress


def finetune(
    network: nn.Module,
    trial: TrialPlan,
    data: Data,
    finetuning: Finetuning,
    precision: str,
    excluded: Collection[str],
    on_progress: Callable[[Progress], None],
) -> list[dict[str, float]]:
    """Train a pruned network on with its trial's optimizer and batches; a row per epoch.

    Raises:
        Diverged: as `train`.
    """
    recipe = Recipe.model_validate(trial.optimizer.settings["training"]).model_copy(
        update={
            "epochs": finetuning.epochs,
            "schedule": "constant",
            "warmup_epochs": 0.0,
            "weight_averaging": "off",
        }
    )
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    length = {"steps_per_epoch": len(data.train) // recipe.batch_size, "epochs": recipe.epochs}
    optimizer = build_optimizer(trial.optimizer, network, derive_seed(trial.seed, "optimizer", "fine-tuning"), **length)
    for group in optimizer.param_groups:
        group["lr"] = finetuning.lr if finetuning.lr is not None else group["lr"] / 10
    seed = derive_seed(trial.seed, "fine-tuning")
    device = data.train.images.device.type
    with seeded(seed, device):
        training = train(
            network,
            optimizer,
            data,
            recipe,
            seed,
            precision=precision,
            after_step=FixedSparsity(network, excluded).apply,
            on_progress=on_progress,
            capture=capture_on(device),
        )
    return training.history


class FixedSparsity:
    """Remembers which weights are zero and sets them to zero again after an optimizer's step.

    Momentum and weight decay move pruned weights even where gradients are masked; what counts is
    what the weights are after the step.

    Args:
        network: a pruned network. Its weights may be moved and changed, not replaced.
        excluded: names of modules that were not pruned.
    """

    def __init__(self, network: nn.Module, excluded: Collection[str] = ()) -> None:
        weights = [weight_of(layer) for layer in prunable_layers(network, excluded).values()]
        zeros = [weight.detach() == 0 for weight in weights]
        self._zeros = [(weight, zero) for weight, zero in zip(weights, zeros, strict=True) if bool(zero.any())]

    @torch.no_grad()
    def apply(self) -> None:
        """Set the remembered weights to zero."""
        for weight, zero in self._zeros:
            weight.masked_fill_(zero, 0.0)
