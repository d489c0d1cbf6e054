"""Weights and their products: convolutions and matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from sgabench.pruners.channels.labels import ELEMENTS, along, varying, vector
from sgabench.pruners.channels.meeting import meet
from sgabench.pruners.channels.movement import unknown
from sgabench.pruners.channels.tracing import Rule, Tracer

Args = tuple[Any, ...]
Named = dict[str, Any]


def convolve(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Tensor) -> None:
    """`aten::convolution`: input, weight, bias, stride, padding, dilation, transposed, output padding, groups."""
    given, weight, bias = args[:3]
    transposed, groups = bool(args[6]), int(args[8])
    coupling, state = tracer.trace.coupling, tracer.state_of(weight)
    labels = tracer.labels(given)
    if state is None or labels is None or weight.shape != state.tensor.shape:
        return unknown(tracer, func, args, kwargs, out)
    channels = vector(labels, 1, given.shape[1], coupling)
    macs = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
    first, second = tracer.slots_of(state, 0), tracer.slots_of(state, 1)
    parts = channels.view(groups, -1)
    if transposed:
        coupling.unify(first, channels)
        outputs = second.repeat(groups)
        if parts.shape[1] == 1 and groups > 1:  # each group reads one channel
            outputs = first.repeat_interleave(len(second))
            coupling.freeze(second)
            tracer.trace.operations.append((macs, [first]))
        else:
            coupling.unify(parts, parts[:1])
            tracer.trace.operations.append((macs, [first, second]))
    elif parts.shape[1] == 1 and groups > 1:
        coupling.unify(first.view(groups, -1), parts)
        outputs = first
        tracer.trace.operations.append((macs, [first]))
    else:
        coupling.unify(parts, second)
        coupling.unify(first.view(groups, -1), first.view(groups, -1)[:1])
        outputs = first
        tracer.trace.operations.append((macs, [first, second]))
    if bias is not None:
        coupling.unify(vector(tracer.labels_or_none(bias), 0, len(outputs), coupling), outputs)
    tracer.set(out, along(outputs, 1, out.dim()))
    return None


def product(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Tensor) -> None:
    """`mm`, `bmm`, `addmm`, `baddbmm`: (batch, m, k) by (batch, k, n)."""
    added, (left, right) = (args[0], args[1:3]) if len(args) > 2 else (None, args[:2])
    coupling = tracer.trace.coupling
    sides = [_side(tracer, left, -2, -1), _side(tracer, right, -1, -2)]
    if sides[0] is None or sides[1] is None:
        return unknown(tracer, func, args, kwargs, out)
    (rows, left_inner, left_weight), (columns, right_inner, right_weight) = sides[0], sides[1]
    inner = left.shape[-1]
    varied = [len(labels) > 1 for labels in (rows, columns)]
    if (left_weight or right_weight) and not (left_weight and right_weight):
        given, outer = (right, columns) if left_weight else (left, rows)
        weight = rows if left_weight else columns
        if len(outer) > 1 and bool(outer.any()):
            # a layer over places, not over channels: every channel passes through it
            coupling.freeze(weight)
            coupling.freeze(left_inner if left_weight else right_inner)
            if len(right_inner if left_weight else left_inner) > 1:
                coupling.freeze(right_inner if left_weight else left_inner)
            weight = torch.zeros(1, dtype=torch.int64)
            rows, columns = (weight, outer) if left_weight else (outer, weight)
        else:
            coupling.unify(left_inner.expand(inner), right_inner.expand(inner))
            zero = torch.zeros(1, dtype=torch.int64)
            rows, columns = (weight, zero) if left_weight else (zero, weight)
        del given
    else:
        if len(left_inner) > 1 or len(right_inner) > 1:
            coupling.unify(left_inner.expand(inner), right_inner.expand(inner))
            tracer.trace.attentions.append((tracer.inside[-1], left_inner.expand(inner)))
        if all(varied) or (len(rows) == 1 and len(columns) == 1):
            coupling.freeze(rows)
            coupling.freeze(columns)
            rows = columns = torch.zeros(1, dtype=torch.int64)
    macs = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
    vectors = [
        labels for labels in (rows, left_inner if len(left_inner) > 1 else right_inner, columns) if len(labels) > 1
    ]
    tracer.trace.operations.append((macs, vectors))
    shape = [1] * out.dim()
    if len(rows) > 1 or (len(columns) == 1 and bool(rows.any())):
        shape[-2] = len(rows)
        labels = rows.view(shape)
    else:
        shape[-1] = len(columns)
        labels = columns.view(shape)
    if added is not None:
        found = tracer.labels_or_none(added)
        padded = found.view([1] * (out.dim() - added.dim()) + list(found.shape))
        sizes = [1] * (out.dim() - added.dim()) + list(added.shape)
        labels, _ = meet(tracer, labels, list(out.shape), padded, sizes)
    tracer.set(out, labels)
    return None


def _side(tracer: Tracer, tensor: Tensor, free: int, inner: int) -> tuple[Tensor, Tensor, bool] | None:
    """Labels along the free and the inner dimension of a factor, and whether it is a weight."""
    coupling, state = tracer.trace.coupling, tracer.state_of(tensor)
    if state is not None:
        places = _places(tensor, state.tensor, (free, inner))
        if places is None:
            return None
        (free_dim, free_first), (inner_dim, inner_first) = places
        free_slots = tracer.slots_of(state, free_dim)[free_first : free_first + tensor.shape[free]]
        return free_slots, tracer.slots_of(state, inner_dim)[inner_first : inner_first + tensor.shape[inner]], True
    labels = tracer.labels(tensor)
    if labels is None:
        none = torch.zeros(1, dtype=torch.int64)
        return none, none, False
    batch = [dim for dim in varying(labels) if dim < labels.dim() - 2]
    if batch or (labels.shape[free] > 1 and labels.shape[inner] > 1):
        coupling.freeze(labels)
        none = torch.zeros(1, dtype=torch.int64)
        return none, none, False
    if bool((labels >= ELEMENTS).all()):  # a weight that is computed
        coupling.freeze(labels)
        return None
    if labels.shape[free] > 1:
        return labels.reshape(-1), torch.zeros(1, dtype=torch.int64), False
    return torch.zeros(1, dtype=torch.int64), labels.reshape(-1), False


def _places(tensor: Tensor, weight: Tensor, dims: tuple[int, int]) -> list[tuple[int, int]] | None:
    """Which dimension of a weight each dimension of a part of it is, and where it begins; None if it is not plain."""
    if any(stride for stride in tensor.stride()[:-2]):
        return None
    offset, strides = int(tensor.storage_offset() - weight.storage_offset()), [int(s) for s in weight.stride()]
    begins: dict[int, int] = {}
    for dim in sorted(range(weight.dim()), key=lambda dim: -strides[dim]):
        if weight.shape[dim] > 1:
            begins[dim], offset = divmod(offset, strides[dim])
    found = []
    for dim in dims:
        same = [
            d for d in begins if strides[d] == tensor.stride(dim) and begins[d] + tensor.shape[dim] <= weight.shape[d]
        ]
        if tensor.shape[dim] == 1:
            same = [d for d in range(weight.dim()) if weight.shape[d] == 1][:1] or same[:1]
        if len(same) != 1:
            return None
        found.append((same[0], begins.get(same[0], 0)))
    return found if found[0][0] != found[1][0] else None


RULES: dict[str, Rule] = {"convolution": convolve} | dict.fromkeys(["mm", "bmm", "addmm", "baddbmm"], product)
