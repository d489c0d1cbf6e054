"""Weights and their products: convolutions and matrix products."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from sgabench.pruners.channels.labels import ELEMENTS, NONE, along, varying, vector
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
    sides = _side(tracer, left, -2, -1), _side(tracer, right, -1, -2)
    if sides[0] is None or sides[1] is None:
        return unknown(tracer, func, args, kwargs, out)
    if sides[0].weight != sides[1].weight:
        rows, columns = _layer(tracer, sides[0], sides[1])
    else:
        rows, columns = _of_activations(tracer, sides[0], sides[1])
    macs = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
    inner = max(sides[0].inner, sides[1].inner, key=len)
    tracer.trace.operations.append((macs, [labels for labels in (rows, inner, columns) if len(labels) > 1]))
    labels = along(rows, out.dim() - 2, out.dim()) if rows.any() else along(columns, out.dim() - 1, out.dim())
    if added is not None:
        missing = [1] * (out.dim() - added.dim())
        found = tracer.labels_or_none(added)
        others = found.view(missing + list(found.shape))
        labels, _ = meet(tracer, labels, list(out.shape), others, missing + list(added.shape))
    tracer.set(out, labels)
    return None


class _Side(NamedTuple):
    """A factor: labels along its free and its inner dimension (one if they do not vary), and whether it is a weight."""

    free: Tensor
    inner: Tensor
    weight: bool


_NOTHING = torch.full([1], NONE)


def _layer(tracer: Tracer, left: _Side, right: _Side) -> tuple[Tensor, Tensor]:
    """Labels of the rows and columns of a layer's output."""
    coupling = tracer.trace.coupling
    weight, given = (left, right) if left.weight else (right, left)
    if len(given.free) > 1 and bool(given.free.any()):
        # a layer over positions, not channels: every channel passes through it
        for labels in (weight.free, weight.inner, given.inner):
            coupling.freeze(labels)
        free = given.free
        return (_NOTHING, free) if left.weight else (free, _NOTHING)
    coupling.unify(weight.inner, given.inner)
    return (weight.free, _NOTHING) if left.weight else (_NOTHING, weight.free)


def _of_activations(tracer: Tracer, left: _Side, right: _Side) -> tuple[Tensor, Tensor]:
    """Likewise, for the product of two activations."""
    coupling = tracer.trace.coupling
    if len(left.inner) > 1 or len(right.inner) > 1:
        coupling.unify(left.inner, right.inner)
        tracer.trace.attentions.append((tracer.inside[-1], max(left.inner, right.inner, key=len)))
    if (len(left.free) > 1) == (len(right.free) > 1):  # both have channels there, or neither has
        coupling.freeze(left.free)
        coupling.freeze(right.free)
        return _NOTHING, _NOTHING
    return (left.free, _NOTHING) if len(left.free) > 1 else (_NOTHING, right.free)


def _side(tracer: Tracer, tensor: Tensor, free: int, inner: int) -> _Side | None:
    """What is known about a factor; None for a weight that is computed."""
    coupling, state = tracer.trace.coupling, tracer.state_of(tensor)
    if state is not None:
        places = _places(tensor, state.tensor, (free, inner))
        if places is None:
            return None
        (free_dim, free_first), (inner_dim, inner_first) = places
        outer_slots = tracer.slots_of(state, free_dim)[free_first : free_first + tensor.shape[free]]
        inner_slots = tracer.slots_of(state, inner_dim)[inner_first : inner_first + tensor.shape[inner]]
        return _Side(outer_slots, inner_slots, True)
    labels = tracer.labels(tensor)
    if labels is None:
        return _Side(_NOTHING, _NOTHING, False)
    batch = [dim for dim in varying(labels) if dim < labels.dim() - 2]
    if batch or (labels.shape[free] > 1 and labels.shape[inner] > 1):
        coupling.freeze(labels)
        return _Side(_NOTHING, _NOTHING, False)
    if bool((labels >= ELEMENTS).all()):  # a computed weight
        coupling.freeze(labels)
        return None
    if labels.shape[free] > 1:
        return _Side(labels.reshape(-1), _NOTHING, False)
    return _Side(_NOTHING, labels.reshape(-1), False)


def _places(tensor: Tensor, weight: Tensor, dims: tuple[int, int]) -> list[tuple[int, int]] | None:
    """The dimension of a weight for each dimension of a part of it, and its offset; None if it is not a plain slice."""
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
