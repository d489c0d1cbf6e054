"""Remove channels from a network: smaller tensors, and the sizes that its modules store."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from sgabench.pruners.channels.structure import STAYS, Structure

# Names of attributes that are numbers of channels.
_SIZES = ("dim", "chan", "chs", "planes", "features")


def remove(network: nn.Module, structure: Structure, kept: np.ndarray) -> nn.Module:
    """A network without some channels; tensors that keep their size are shared with the original.

    Args:
        network: it is not changed.
        structure: of this network.
        kept: whether to keep each channel, and one more element at the end, for what always stays.
    """
    dense = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    whole: dict[int, Any] = {id(tensor): tensor for tensor in dense.values()}
    pruned = copy.deepcopy(network, whole)
    made: dict[int, Tensor] = {}
    for name in {name for name, _ in structure.sliced}:
        dims = {dim: vector for (state, dim), vector in structure.sliced.items() if state == name}
        if all(kept[vector].all() for vector in dims.values()):
            continue
        tensor = dense[name].detach()
        for dim, vector in dims.items():
            tensor = tensor.index_select(dim, torch.from_numpy(np.flatnonzero(kept[vector])).to(tensor.device))
        if tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=_memory_format(dense[name]))
        if isinstance(dense[name], nn.Parameter):
            tensor = nn.Parameter(tensor, requires_grad=dense[name].requires_grad)
        made[id(dense[name])] = tensor
    old, new = dict(network.named_modules()), dict(pruned.named_modules())
    for name, module in old.items():
        slots: dict[str, Tensor | None] = {**module._parameters, **module._buffers}
        changed = {key: made[id(tensor)] for key, tensor in slots.items() if tensor is not None and id(tensor) in made}
        for key, tensor in changed.items():
            if key in module._parameters:
                new[name]._parameters[key] = tensor
            else:
                new[name]._buffers[key] = tensor
        if changed:
            _tell(new[name], module)
    for name, (inputs, outputs) in structure.wholes.items():
        whole_module: Any = new[name]
        whole_module._buffers = dict(whole_module._buffers)
        whole_module.prune_inputs(np.flatnonzero(~kept[inputs]).tolist())
        whole_module.prune_outputs(np.flatnonzero(~kept[outputs]).tolist())
    _tell_sizes(pruned, network, structure, kept)
    return pruned


def _memory_format(tensor: Tensor) -> torch.memory_format:
    return torch.contiguous_format if tensor.is_contiguous() else torch.channels_last


def _tell(layer: Any, dense: Any) -> None:
    """Update the sizes that torch's layers store beside their tensors."""
    if isinstance(layer, _ConvNd):
        first, second = layer.weight.shape[:2]
        if dense.groups > 1 and dense.weight.shape[0 if dense.transposed else 1] == (
            dense.groups if dense.transposed else 1
        ):
            layer.groups = first if dense.transposed else first * dense.groups // dense.out_channels
        layer.in_channels = first if layer.transposed else second * layer.groups
        layer.out_channels = second * layer.groups if layer.transposed else first
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _NormBase):
        layer.num_features = len(layer.weight if layer.weight is not None else layer.running_mean)
    elif isinstance(layer, nn.GroupNorm):
        if dense.num_groups == dense.num_channels:
            layer.num_groups = len(layer.weight)
        layer.num_channels = len(layer.weight)
    elif isinstance(getattr(layer, "normalized_shape", None), tuple):
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(layer.weight)
    elif isinstance(layer, nn.Embedding):
        layer.num_embeddings, layer.embedding_dim = layer.weight.shape
    elif isinstance(layer, nn.MultiheadAttention):
        layer.embed_dim = layer.kdim = layer.vdim = layer.in_proj_weight.shape[0] // 3
        layer.head_dim = layer.embed_dim // layer.num_heads


def _tell_sizes(pruned: nn.Module, dense: nn.Module, structure: Structure, kept: np.ndarray) -> None:
    """Update numbers of channels that modules store, and the scale of attention scores.

    Scores are divided by the root of the head size. Its change is compensated in the queries, so that only the removed
    dimensions are missing from a score.
    """
    known: dict[str, dict[int, int]] = {}
    for name, vector in structure.splits:
        known.setdefault(name, {})[len(vector)] = int(np.count_nonzero(kept[vector]))
    for name, sizes in known.items():
        numbers = {key: value for key, value in vars(dense.get_submodule(name)).items() if type(value) is int}
        counts = [1, *(value for key, value in numbers.items() if key.startswith("num"))]
        for key, value in numbers.items():
            if any(word in key for word in _SIZES):
                fits = [after * count for before, after in sizes.items() for count in counts if value == before * count]
                if fits:
                    setattr(pruned.get_submodule(name), key, fits[-1])  # for splits, the parts come last
    for name, vector in structure.attentions:
        left = int(np.count_nonzero(kept[vector]))
        if left != len(vector) and (vector != STAYS).any():
            _scale(pruned.get_submodule(name), len(vector), left)


@torch.no_grad()
def _scale(attention: Any, before: int, after: int) -> None:
    factor, queries = (after / before) ** 0.5, _queries(attention)
    scale = getattr(attention, "scale", None)
    if isinstance(scale, float) and queries:
        attention.scale = scale / factor
    for parameters in queries:
        parameters.mul_(factor)


def _queries(attention: Any) -> list[Tensor]:
    """The weights and biases of queries; in joint projections with keys and values, they come first."""
    if isinstance(attention, nn.MultiheadAttention):
        packed = [attention.in_proj_weight, attention.in_proj_bias]
        return [part[: attention.embed_dim] for part in packed if part is not None]
    joint = getattr(attention, "qkv", None)
    if isinstance(joint, nn.Linear):
        found = [part[: len(part) // 3] for part in (joint.weight, joint.bias) if part is not None]
        bias = getattr(attention, "q_bias", None)
        return [*found, *([bias] if isinstance(bias, nn.Parameter) else [])]
    for name in ("q", "q_proj", "to_q", "query"):
        layer = getattr(attention, name, None)
        if isinstance(layer, (nn.Linear, _ConvNd)):
            return [part for part in (layer.weight, layer.bias) if part is not None]
    return []
