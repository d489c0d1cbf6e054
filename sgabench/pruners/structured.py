"""Pruning of whole channels, after which the network is smaller and needs no masks.

Torch-Pruning (Fang et al. 2023, arXiv 2301.12900) says which channels of which layers must go
together, how important they are, and takes them out. Which of them go is decided here, so that the
number asked for is met in spite of ties and no layer loses its last channel.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sgabench.errors import InputError, describe
from sgabench.models.layers import evaluating, input_and_classifier, is_within
from sgabench.models.operations import count_macs
from sgabench.models.structural import customized_pruners
from sgabench.plugins import PruningContext
from sgabench.pruners.attention import is_kept_whole, prunable_heads, update_head_sizes

Scope = Literal["global", "layer"]
Of = Literal["channels", "params", "macs"]

# How near to the asked fraction of parameters or multiply-adds the search stops.
TOLERANCE = 0.001


def prune_channels(network: nn.Module, ratio: float, context: PruningContext, scope: Scope, of: Of) -> nn.Module:
    """Remove the channels of smallest group magnitude.

    A channel that several layers share through additions is one channel: it goes from all of them or
    from none. Excluded layers keep all their outputs, and so do the layers that share theirs: with
    the input layer excluded, the first stage of a residual network keeps its width and only the
    insides of its blocks shrink. The logits always stay, and every layer keeps a channel.

    The ratio is the fraction of the channels that can go in principle, or of the whole network's
    parameters or multiply-adds. The latter are reached by searching for the number of channels:
    to within 0.1 % where the steps, one channel each, are so fine, else as near as they allow. All
    ratios share the importances, the order and what the search has found out. They cannot share
    Torch-Pruning's graph: it refers to the modules of one network, and removing channels changes it.

    Returns:
        The same network, or at ratio 0 the network untouched.

    Raises:
        InputError: what Torch-Pruning took out does not fit together.
    """
    if ratio == 0:
        return network
    images = context.images
    example = next(network.parameters()).new_zeros(1, images.channels, images.height, images.width)
    kept = context.once("kept", lambda: context.excluded | input_and_classifier(network, example)[1])
    units = context.once("units", lambda: _rank(network, example, kept))
    order = context.once("order", lambda: _removal_order(units, scope))
    if of == "channels":
        count = min(round(ratio * sum(len(unit.scores) for unit in units)), len(order))
    else:
        cost = _params if of == "params" else _macs
        costs = context.once("costs", lambda: {0: cost(network, example)})

        def removed(count: int) -> float:
            if count not in costs:
                pruned = copy.deepcopy(network)
                _remove(pruned, example, kept, order[:count])
                costs[count] = cost(pruned, example)
            return 1 - costs[count] / costs[0]

        count = _search(removed, ratio, len(order))
    _remove(network, example, kept, order[:count])
    return network


@dataclass(frozen=True)
class _Unit:
    """Channels that are ranked together.

    Attributes:
        root: the layer in which channels are numbered, and how it is pruned (``in`` or ``out``).
        scores: importance (channels,); channels that must go together, one of each head or group of
            a layer, are one.
    """

    root: str
    scores: Tensor


class _Graph:
    """Torch-Pruning's dependency graph of a network.

    Args:
        network: its parameters come to require gradients, which the tracing needs.
        kept: names of the modules whose outputs stay.
    """

    def __init__(self, network: nn.Module, example: Tensor, kept: Collection[str]) -> None:
        self.network = network
        self.heads = prunable_heads(network)
        self.kept = [
            module for name, module in network.named_modules() if is_within(name, kept) or is_kept_whole(name, network)
        ]
        network.requires_grad_(True)
        with torch.enable_grad():
            self.dependencies = torch_pruning.DependencyGraph().build_dependency(
                network, (example,), customized_pruners=customized_pruners(), verbose=False
            )

    def groups(self) -> dict[str, Any]:
        """Every group of coupled channels in full, by its root."""
        graph = self.dependencies
        groups = {}
        for group in graph.get_all_groups(self.kept, (_ConvNd, nn.Linear)):
            if any(dependency.target.module in self.heads for dependency, _ in group):
                group = self._from_behind_attention(group)
            if group is not None:
                root, _ = group[0]
                side = "out" if graph.is_out_channel_pruning_fn(root.handler) else "in"
                groups[f"{graph._module2name[root.target.module]}:{side}"] = group
        return groups

    def _from_behind_attention(self, group: Any) -> Any | None:
        """The group as seen from the layer behind: there each channel of q, k and v has one number."""
        for dependency, indices in reversed(group.items):
            layer, prune = dependency.target.module, dependency.handler
            if isinstance(layer, (_ConvNd, nn.Linear)) and self.dependencies.is_in_channel_pruning_fn(prune):
                return self.dependencies.get_pruning_group(layer, prune, indices)
        return None

    def repeats(self, group: Any) -> int:
        """Number of equal parts (heads, groups of a convolution or a norm) that must stay equal."""
        return math.lcm(*(self._parts(dependency.target.module) for dependency, _ in group))

    def _parts(self, layer: object) -> int:
        if isinstance(layer, _ConvNd):
            return 1 if layer.groups == layer.out_channels else layer.groups
        if isinstance(layer, nn.GroupNorm):
            return layer.num_groups
        if isinstance(layer, nn.MultiheadAttention):
            return int(layer.num_heads)
        return self.heads.get(layer, 1) if isinstance(layer, nn.Linear) else 1


def _rank(network: nn.Module, example: Tensor, kept: Collection[str]) -> list[_Unit]:
    graph = _Graph(copy.deepcopy(network), example, kept)
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    units = []
    for root, group in graph.groups().items():
        scores = importance(group)
        if scores is not None:
            # a group of zeros has no mean to be divided by; nothing is less important
            scores = torch.nan_to_num(scores.detach().double().cpu(), nan=0.0)
            units.append(_Unit(root, scores.view(graph.repeats(group), -1).mean(dim=0)))
    return units


def _removal_order(units: list[_Unit], scope: Scope) -> list[tuple[str, int]]:
    """Root and number of every channel, in the order in which they go; the best of each unit stays.

    By importance, or so that all layers shrink at the same pace, the least important channel first.
    """
    channels: list[tuple[str, int]] = []
    keys = [torch.empty(0, dtype=torch.float64)]
    for unit in units:
        order = torch.argsort(unit.scores, stable=True)[:-1]
        channels += [(unit.root, channel) for channel in order.tolist()]
        pace = (torch.arange(len(order), dtype=torch.float64) + 0.5) / len(unit.scores)
        keys.append(unit.scores[order] if scope == "global" else pace)
    return [channels[place] for place in torch.argsort(torch.cat(keys), stable=True).tolist()]


def _search(removed: Callable[[int], float], ratio: float, most: int) -> int:
    """The number of channels whose removal takes away nearly the asked fraction, found by bisection.

    Args:
        removed: fraction that the removal of so many channels takes away, growing with the number.
        ratio: the asked fraction.
        most: channels that can be removed.
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


def _params(network: nn.Module, example: Tensor) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _macs(network: nn.Module, example: Tensor) -> int:
    return count_macs(network, example)[0]


def _remove(network: nn.Module, example: Tensor, kept: Collection[str], channels: list[tuple[str, int]]) -> None:
    trainable = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    channels_last = any(parameter.dim() == 4 and not parameter.is_contiguous() for parameter in network.parameters())
    with evaluating(network):
        shape = network(example).shape
    graph = _Graph(network, example, kept)
    groups = graph.groups()
    chosen: dict[str, list[int]] = {}
    for root, channel in channels:
        chosen.setdefault(root, []).append(channel)
    for root, numbers in chosen.items():
        _remove_from_group(graph, groups[root], numbers)
    update_head_sizes(graph.heads, network)
    if channels_last:
        network.to(memory_format=torch.channels_last)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(trainable[name])
    _check(network, example, shape)


def _remove_from_group(graph: _Graph, group: Any, channels: list[int]) -> None:
    root, indices = group[0]
    repeats = graph.repeats(group)
    part = len(indices) // repeats
    everywhere = [channel + number * part for number in range(repeats) for channel in channels]
    graph.dependencies.get_pruning_group(root.target.module, root.handler, everywhere).prune()


def _check(network: nn.Module, example: Tensor, shape: torch.Size) -> None:
    try:
        with evaluating(network):
            after = network(example).shape
    except RuntimeError as error:
        raise InputError(
            f"structured pruning does not know a layer of {type(network).__name__}, which no longer fits "
            f"({describe(error)}); choose another pruner for this model"
        ) from error
    if after != shape:
        raise InputError(
            f"structured pruning changed the output of {type(network).__name__} from {tuple(shape)} to "
            f"{tuple(after)}; choose another pruner for this model"
        )
