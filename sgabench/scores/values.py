"""Scores from the weights, now and before the training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgabench.errors import InputError
from sgabench.models.layers import prunable_weights
from sgabench.plugins import PruningContext
from sgabench.system.seeds import derive_seed


def magnitudes(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """The absolute value of every weight."""
    return {name: weight.detach().abs() for name, weight in prunable_weights(network, context.excluded).items()}


def random_numbers(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """A number in [0, 1) for every weight: a function of only the context's seed and the shapes."""
    generator = torch.Generator().manual_seed(derive_seed(context.seed, "random pruning"))
    weights = prunable_weights(network, context.excluded)
    return {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in weights.items()}


def movements(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """How far every weight moved away from zero in training.

    Movement pruning (Sanh et al. 2020, arXiv 2005.07683, equation 4) adds up -weight x gradient over the steps. Where
    a weight follows its gradient, d weight = -rate x gradient, that sum is (weight^2 - initial^2) / (2 rate),
    whatever the path. So the two ends are enough; the factor is the same for all weights.

    Raises:
        InputError: the initial weights are unknown.
    """
    if context.initial is None:
        raise InputError("score 'movement' needs the weights from before the training, which are not known here")
    weights = prunable_weights(network, context.excluded)
    before = prunable_weights(context.initial(), context.excluded)
    return {
        name: weight.detach().square() - before[name].detach().to(weight.device).square()
        for name, weight in weights.items()
    }
