"""Pruning of whole channels, after which the network is smaller and needs no masks.

Which channels of which layers belong together is found by following them through the network
(`sgabench.pruners.channels`). Their importance is the magnitude of Torch-Pruning (Fang et al. 2023, arXiv 2301.12900),
or another of its importances. Which of them are removed is decided here, so that the number is met in spite of ties and
no layer loses its last channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from sgabench.errors import InputError
from sgabench.models.layers import evaluating, input_and_classifier
from sgabench.plugins import PruningContext
from sgabench.pruners.channels.importance import rank
from sgabench.pruners.channels.proof import agree, proven
from sgabench.pruners.channels.reference import masked_logits, zero
from sgabench.pruners.channels.removing import remove
from sgabench.pruners.channels.structure import Structure, find_structure

Scope = Literal["global", "layer"]
Of = Literal["channels", "params", "macs"]

# The search stops this near to the requested fraction of parameters or multiply-adds.
TOLERANCE = 0.001
_IMAGES = 8


def prune_channels(
    network: nn.Module,
    ratio: float,
    context: PruningContext,
    scope: Scope,
    of: Of,
    ranking: Callable[[nn.Module, Structure], dict[str, Tensor]] = rank,
) -> nn.Module:
    """Remove the least important channels.

    A channel that several layers share through additions is one channel: it is removed from all of them or none.
    Excluded layers keep all their outputs, and so do the layers that share theirs: with the input layer excluded, the
    first stage of a residual network keeps its width and only the insides of its blocks shrink. The logits always stay,
    and every layer keeps a channel. Layers stay whole unless the removal of their channels is proven to be correct: the
    output without them must equal that with them set to zero.

    The ratio is the fraction of the removable channels, or of the whole network's parameters or multiply-adds. The
    latter are reached by searching for the number of channels: to within 0.1 % where steps of one channel are fine
    enough, else as near as they allow. All ratios share the structure of the network, the importances and the order.

    Args:
        network: it must not be used afterwards.
        ratio: in [0, 1).
        context: its notes get ``kept_whole``, the names of the layers that lose no channels.
        scope: all channels compete, or all layers shrink at the same pace.
        of: what the ratio is a fraction of.
        ranking: scores the channels of each unit, higher stays; by default the group's magnitude. It must not depend on
            the ratio. Channels of units without scores stay.

    Returns:
        A smaller network, or at ratio 0 the network unchanged.

    Raises:
        InputError: no channel can be removed, or the output of the smaller network is wrong.
    """
    if ratio == 0:
        return network
    structure = context.once("structure", lambda: removable(network, context))
    context.notes["kept_whole"] = list(structure.kept_whole)
    order = context.once("order", lambda: _removal_order(structure, ranking(network, structure), scope))
    if of == "channels":
        count = min(round(ratio * structure.channels), len(order))
    else:
        cost = structure.params if of == "params" else structure.macs
        whole = cost(_kept(structure, order[:0]))
        count = _search(lambda count: 1 - cost(_kept(structure, order[:count])) / whole, ratio, len(order))
    return _remove(network, structure, _kept(structure, order[:count]), _images(network, context))


def removable(network: nn.Module, context: PruningContext) -> Structure:
    """The channels of a network that can be removed, proven on a few images.

    Raises:
        InputError: there are none.
    """
    images = _images(network, context)
    kept = context.excluded | input_and_classifier(network, images[:1])[1]
    structure = proven(network, find_structure(network, images[:1], kept), images)
    if not structure.units:
        raise InputError(
            f"structured pruning cannot remove any channel of {type(network).__name__} without changing the "
            "output of the others; choose another pruner for this model"
        )
    return structure


def _images(network: nn.Module, context: PruningContext) -> Tensor:
    """A few training images; noise if there are none."""
    for images, _ in context.batches():
        return images[:_IMAGES]
    spec = context.images
    noise = torch.randn(2, spec.channels, spec.height, spec.width, generator=torch.Generator().manual_seed(0))
    return noise.to(next(network.parameters()))


def _kept(structure: Structure, removed: np.ndarray) -> np.ndarray:
    kept = np.ones(structure.numbers + 1, dtype=bool)
    kept[removed] = False
    return kept


def _removal_order(structure: Structure, scores: dict[str, Tensor], scope: Scope) -> np.ndarray:
    """Numbers of the channels in the order of removal; the best of each unit stays.

    By importance, or so that all layers shrink at the same pace, the least important channel first.
    """
    channels, keys = [np.empty(0, dtype=np.int64)], [torch.empty(0, dtype=torch.float64)]
    for unit, found in scores.items():
        order = torch.argsort(found, stable=True)[:-1]
        channels.append(structure.units[unit][order.numpy()])
        pace = (torch.arange(len(order), dtype=torch.float64) + 0.5) / len(found)
        keys.append(found[order] if scope == "global" else pace)
    ordered: np.ndarray = np.concatenate(channels)[torch.argsort(torch.cat(keys), stable=True).numpy()]
    return ordered


def _search(removed: Callable[[int], float], ratio: float, most: int) -> int:
    """The number of channels whose removal comes closest to the requested fraction, by bisection.

    Args:
        removed: the fraction that the removal of a number of channels takes away; increasing.
        ratio: the requested fraction.
        most: number of channels that can be removed.
    """
    best, nearest = 0, ratio
    low, high = 0, most + 1
    while high - low > 1 and nearest > TOLERANCE:
        middle = (low + high) // 2
        fraction = removed(middle)
        if abs(fraction - ratio) < nearest:
            best, nearest = middle, abs(fraction - ratio)
        low, high = (middle, high) if fraction < ratio else (low, middle)
    return best


def _remove(network: nn.Module, structure: Structure, kept: np.ndarray, images: Tensor) -> nn.Module:
    pruned = remove(network, structure, kept)
    with evaluating(pruned):
        logits = pruned(images)
    zero(network, structure, kept)
    if not agree(logits, masked_logits(network, structure, kept, images)):
        raise InputError(
            f"{type(network).__name__} without the removed channels does not give the same output as with them at "
            "zero; choose another pruner for this model"
        )
    return pruned
