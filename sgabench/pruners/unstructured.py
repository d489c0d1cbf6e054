"""Pruning of single weights: they become zero, every tensor keeps its shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from sgabench.models.layers import prunable_layers, weight_of
from sgabench.plugins import PruningContext
from sgabench.system.seeds import derive_seed

Scope = Literal["global", "layer"]


def prune_smallest(network: nn.Module, ratio: float, context: PruningContext, scope: Scope) -> nn.Module:
    """Set the weights of smallest magnitude to zero.

    Weights that are zero already are the smallest of all and count as pruned.

    Returns:
        The same network; exactly ``round(ratio * N)`` of its N prunable weights are zero (more, if
        more were before), of the whole network or of each layer.
    """
    weights = _prunable_weights(network, context)
    _zero_lowest(weights, context.once("ranking", lambda: _Ranking.of(list(map(_magnitude, weights)), scope)), ratio)
    return network


def prune_at_random(network: nn.Module, ratio: float, context: PruningContext, scope: Scope) -> nn.Module:
    """Set weights drawn at random to zero: what any other pruner has to beat.

    The draw depends on the context's seed and the shapes alone. What a smaller ratio prunes, a
    greater one prunes, too.

    Returns:
        The same network; exactly ``round(ratio * N)`` weights were drawn, each once.
    """
    weights = _prunable_weights(network, context)

    def draw() -> _Ranking:
        generator = torch.Generator().manual_seed(derive_seed(context.seed, "random pruning"))
        scores = [torch.rand(weight.shape, generator=generator).to(weight.device) for weight in weights]
        return _Ranking.of(scores, scope)

    _zero_lowest(weights, context.once("ranking", draw), ratio)
    return network


def _prunable_weights(network: nn.Module, context: PruningContext) -> list[nn.Parameter]:
    return [weight_of(layer) for layer in prunable_layers(network, context.excluded).values()]


def _magnitude(weight: Tensor) -> Tensor:
    return weight.detach().abs()


@dataclass(frozen=True)
class _Ranking:
    """Scores of weights and their order, which are the same for every ratio.

    Attributes:
        scores: of each tensor of weights, on its device.
        groups: of the tensors that compete with each other, which ones and all their scores in
            increasing order.
    """

    scores: list[Tensor]
    groups: list[tuple[list[int], np.ndarray[Any, Any]]]

    @classmethod
    def of(cls, scores: list[Tensor], scope: Scope) -> _Ranking:
        numbers = range(len(scores))
        together = [[number] for number in numbers] if scope == "layer" else [list(numbers)] if scores else []
        return cls(
            scores, [(group, np.sort(_flat([scores[number] for number in group]).numpy())) for group in together]
        )


@torch.no_grad()
def _zero_lowest(weights: list[nn.Parameter], ranking: _Ranking, ratio: float) -> None:
    for group, ascending in ranking.groups:
        count = round(ratio * len(ascending))
        for number, lowest in zip(group, _lowest([ranking.scores[n] for n in group], ascending, count), strict=True):
            weights[number].masked_fill_(lowest, 0.0)


def _lowest(scores: list[Tensor], ascending: np.ndarray[Any, Any], count: int) -> list[Tensor]:
    """Where the ``count`` lowest scores are."""
    if 0 < count < len(ascending) and ascending[count - 1] < ascending[count]:
        threshold = float(ascending[count - 1])
        return [score <= threshold for score in scores]
    return _lowest_of_equals(scores, count)


def _lowest_of_equals(scores: list[Tensor], count: int) -> list[Tensor]:
    """The same where no threshold separates so many: some of equal scores are chosen.

    Torch's pruning method is asked for a mask directly: putting it on modules would leave hooks and a
    second copy of the weights to remove, and fails for weights in channels-last format. It is
    computed on the CPU, where ties are broken in the same way every time.
    """
    flat = _flat(scores)
    mask = prune.L1Unstructured(count).compute_mask(flat, torch.ones_like(flat))  # type: ignore[no-untyped-call]
    parts = mask.split_with_sizes([score.numel() for score in scores])
    return [(part == 0).view(score.shape).to(score.device) for part, score in zip(parts, scores, strict=True)]


def _flat(scores: list[Tensor]) -> Tensor:
    """All scores in one row on the CPU, in a type that NumPy has and that changes none of them."""
    row = torch.cat([score.flatten().cpu() for score in scores])
    return row.to(torch.promote_types(row.dtype, torch.float32))
