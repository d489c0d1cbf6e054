"""Pruning of single weights: they become zero, every tensor keeps its shape."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from sgabench.pruners.base import prunable_layers, weight_of
from sgabench.seeds import derive_seed
from sgabench.specs import PruningContext

Scope = Literal["global", "layer"]


def prune_smallest(network: nn.Module, ratio: float, context: PruningContext, scope: Scope) -> nn.Module:
    """Set the weights of smallest magnitude to zero.

    Weights that are zero already are the smallest of all and count as pruned.

    Returns:
        The same network; exactly ``round(ratio * N)`` of its N prunable weights are zero (more, if
        more were before), of the whole network or of each layer.
    """
    weights = _prunable_weights(network, context)
    _zero_lowest(weights, [weight.detach().abs() for weight in weights], ratio, scope)
    return network


def prune_at_random(network: nn.Module, ratio: float, context: PruningContext, scope: Scope) -> nn.Module:
    """Set weights drawn at random to zero: what any other pruner has to beat.

    The draw depends on the context's seed and the shapes alone. What a smaller ratio prunes, a
    greater one prunes, too.

    Returns:
        The same network; exactly ``round(ratio * N)`` weights were drawn, each once.
    """
    weights = _prunable_weights(network, context)
    generator = torch.Generator().manual_seed(derive_seed(context.seed, "random pruning"))
    scores = [torch.rand(weight.shape, generator=generator) for weight in weights]
    _zero_lowest(weights, scores, ratio, scope)
    return network


def _prunable_weights(network: nn.Module, context: PruningContext) -> list[nn.Parameter]:
    return [weight_of(layer) for layer in prunable_layers(network, context.excluded).values()]


@torch.no_grad()
def _zero_lowest(weights: list[nn.Parameter], scores: list[Tensor], ratio: float, scope: Scope) -> None:
    if scope == "layer":
        masks = [_mask(score, ratio) for score in scores]
    elif scores:
        sizes = [score.numel() for score in scores]
        joined = torch.cat([score.flatten().cpu() for score in scores])
        masks = list(_mask(joined, ratio).split_with_sizes(sizes))
    else:
        return
    for weight, mask in zip(weights, masks, strict=True):
        weight.masked_fill_(mask.view(weight.shape).to(weight.device) == 0, 0.0)


def _mask(scores: Tensor, ratio: float) -> Tensor:
    """Zero for the ``round(ratio * N)`` lowest scores and one for the rest, flat.

    The mask is asked of torch's pruning method directly: putting it on modules would leave hooks and
    a second copy of the weights to remove, and fails for weights in channels-last format. It is
    computed on the CPU, where ties are broken in the same way every time.
    """
    flat = scores.flatten().cpu()
    method = prune.L1Unstructured(round(ratio * flat.numel()))
    mask = method.compute_mask(flat, torch.ones_like(flat))  # type: ignore[no-untyped-call]
    assert isinstance(mask, Tensor)
    return mask
