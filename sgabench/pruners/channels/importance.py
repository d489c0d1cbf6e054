"""Channels in the form of torch-pruning's importances: groups of layers with the indices of the same channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch_pruning._helpers import GroupItem
from torch_pruning.dependency import Group
from torch_pruning.dependency.dependency import Dependency
from torch_pruning.dependency.node import Node

from sgabench.pruners.channels.structure import Structure, Vector

# Scores of a group's channels, higher stays: any importance of torch-pruning. None: it cannot score the group.
Importance = Callable[[Any], Tensor | None]

_BLOCK = 2**20  # weights whose squares are in memory at once


def groups_of(network: nn.Module, structure: Structure) -> Iterator[tuple[str, Any]]:
    """A `torch_pruning.dependency.Group` for each unit of channels, by the unit's name.

    Its root indices are positions in the unit. A channel of several heads or groups has several indices in a layer.
    """
    names = dict(network.named_modules())
    sliced: dict[str, list[tuple[int, Vector]]] = {}
    for (name, dim), vector in structure.sliced.items():
        sliced.setdefault(name, []).append((dim, vector))
    known = {id(p): name for name, p in network.named_parameters(remove_duplicate=True)}
    roles = [
        (name, module, dim, vector)
        for name, module in names.items()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
        for dim, vector in sliced.get(known[id(module.weight)], ())
    ]
    for unit, members in structure.units.items():
        place = np.full(structure.numbers + 1, -1)
        place[members] = np.arange(len(members))
        items = []
        for name, module, dim, vector in roles:
            if (place[vector] >= 0).any():
                items += _items(name, module, dim, place[vector])
        whole = [item for item in items if item[2] and len(item[1]) >= len(members)]
        if whole:
            rest = [item for item in items if item is not whole[0]]
            yield unit, _group([whole[0], *rest])


def magnitudes(group: Any) -> Tensor | None:
    """Sums of squared weights, averaged over layers, relative to the unit's mean (channels,).

    Bit for bit those of torch-pruning's ``GroupMagnitudeImportance(p=2)``, which needs three times the memory of the
    largest layer and does not support transposed convolutions with groups.
    """
    own: Any = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    found = [(_squares(item.dep, item.idxs), item.root_idxs) for item in group]
    known = [(squares, places) for squares, places in found if squares is not None]
    if not known:
        return None
    reduced = own._reduce([squares for squares, _ in known], [places for _, places in known])
    scores: Tensor = own._normalize(reduced, own.normalizer)
    return scores


@torch.no_grad()
def _squares(dependency: Any, indices: list[int]) -> Tensor | None:
    layer, box = dependency.layer, torch_pruning
    weight: Tensor = layer.weight.detach()
    transposed = getattr(layer, "transposed", False)
    if dependency.pruning_fn in (box.prune_conv_out_channels, box.prune_linear_out_channels):
        if transposed:  # (inputs, outputs of a group, ...)
            weight = weight.reshape(layer.groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
        return _sums(weight, indices)
    if dependency.pruning_fn in (box.prune_conv_in_channels, box.prune_linear_in_channels):
        sums = _sums(weight if transposed else weight.transpose(0, 1))
        if isinstance(layer, _ConvNd) and layer.groups not in (1, layer.in_channels):
            sums = sums.repeat(layer.groups)
        return sums[indices]
    if dependency.pruning_fn in (box.prune_batchnorm_out_channels, box.prune_layernorm_out_channels):
        return weight[indices].square()
    return None


def _sums(rows: Tensor, indices: list[int] | None = None) -> Tensor:
    """Sums of squares of all or some rows, computed in blocks of rows."""
    height = max(1, _BLOCK // rows[0].numel())
    count = len(rows) if indices is None else len(indices)
    blocks = [slice(first, first + height) for first in range(0, count, height)]
    return torch.cat([rows[b if indices is None else indices[b]].flatten(1).abs().pow(2).sum(1) for b in blocks])


def rank(network: nn.Module, structure: Structure, importance: Importance = magnitudes) -> dict[str, Tensor]:
    """Scores of each unit's channels (channels,), in float64 on the CPU."""
    scores = {}
    for unit, group in groups_of(network, structure):
        found = importance(group)
        if found is not None:
            # a group of zeros has no mean to divide by; nothing is less important
            found = torch.nan_to_num(found.detach().double().cpu(), nan=0.0)
            scores[unit] = found[: len(structure.units[unit])]
    return scores


_Item = tuple[Any, list[int], bool, list[int]]


def _items(name: str, module: nn.Module, dim: int, place: np.ndarray) -> list[_Item]:
    """Dependency and indices of a layer's weight, whether it makes the channels, and their positions in the unit."""
    box = torch_pruning
    makes = False
    if isinstance(module, _ConvNd):
        depthwise = module.groups == module.out_channels and module.out_channels > 1
        makes = dim == (1 if module.transposed else 0)
        if depthwise:
            handler = box.prune_depthwise_conv_out_channels
        elif makes:
            handler = box.prune_conv_out_channels
            place = np.tile(place, module.groups) if module.transposed else place
        else:
            handler = box.prune_conv_in_channels
            place = place if module.transposed else np.tile(place, module.groups)
    elif isinstance(module, nn.Linear):
        makes = dim == 0
        handler = box.prune_linear_out_channels if makes else box.prune_linear_in_channels
    elif isinstance(module, _BatchNorm):
        handler = box.prune_batchnorm_out_channels
    elif isinstance(module, nn.LayerNorm) and module.weight.dim() == 1:
        handler = box.prune_layernorm_out_channels
    else:
        return []
    node = Node(module, None, name)
    indices = np.flatnonzero(place >= 0)
    return [(Dependency(handler, handler, node, node), indices.tolist(), makes, place[indices].tolist())]


def _group(items: list[_Item]) -> Any:
    group = Group()
    for dependency, indices, _, roots in items:
        item = GroupItem(dependency, indices)
        item.root_idxs = roots
        group._group.append(item)
    return group
