"""Operators that move numbers without computing: labels are moved by the same operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sgabench.pruners.channels.labels import ELEMENTS, NONE, along, compact, varying, vector
from sgabench.pruners.channels.tracing import Rule, Tracer


def move(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Apply the same operator to the labels of the first argument."""
    if tracer.state_of(args[0]) is not None and isinstance(out, Tensor) and tracer.state_of(out) is not None:
        return None  # a part of a parameter, which is recognized by its address
    full = tracer.full(args[0])
    if full is None:
        return unknown(tracer, func, args, kwargs, out)
    moved = func(full, *args[1:], **kwargs)
    for result, labels in zip(_list(out), _list(moved), strict=True):
        tracer.set(result, labels)
    return None


def unknown(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Unknown operators: the channels that enter them stay."""
    from torch.utils._pytree import tree_leaves

    for value in tree_leaves((args, kwargs)):
        tracer.freeze(value)
    for result in tree_leaves(out):
        if isinstance(result, Tensor):
            tracer.set(result, None)


def view(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """Another shape of the same numbers.

    If it splits a dimension of channels, all new dimensions but the last keep their size: the number of heads, groups
    or halves of a shuffle does not change, and each of them loses the same channels.
    """
    if tracer.state_of(args[0]) is not None and tracer.state_of(out) is not None:
        return
    before = tracer.labels(args[0])
    if before is None:
        return
    after = compact(before.expand(args[0].shape).reshape(out.shape))
    for inputs, outputs in _blocks(args[0].shape, out.shape):
        varied = [dim for dim in outputs if after.shape[dim] > 1]
        if len(varied) < 2 or len([dim for dim in inputs if before.shape[dim] > 1]) != 1:
            continue
        for dim in varied[:-1]:
            first = after.narrow(dim, 0, 1)
            tracer.trace.coupling.unify(after, first)
            after = first
    for dim in varying(after):  # the size may be stored in the module
        tracer.trace.splits.append((tracer.inside[-1], after.movedim(dim, 0).reshape(after.shape[dim], -1)[:, 0]))
    tracer.set(out, after)


def _blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Matching blocks of dimensions of both shapes, from left to right."""
    blocks: list[tuple[list[int], list[int]]] = []
    left, right = 0, 0
    while left < len(before) or right < len(after):
        inputs, outputs = [], []
        sizes = [1, 1]
        while True:
            if left < len(before) and (sizes[0] <= sizes[1] or right >= len(after)):
                inputs.append(left)
                sizes[0] *= before[left]
                left += 1
            elif right < len(after):
                outputs.append(right)
                sizes[1] *= after[right]
                right += 1
            else:
                break
            if sizes[0] == sizes[1] and inputs and outputs:
                break
        blocks.append((inputs, outputs))
    return blocks


def split(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Parts of equal size, as from `chunk`, stay equal: all lose the same channels."""
    labels = tracer.labels(args[0])
    dim = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % args[0].dim()
    parts = [part.shape[dim] for part in out]
    if labels is not None and tracer.state_of(args[0]) is None and labels.shape[dim] > 1:
        channels = vector(labels, dim, args[0].shape[dim], tracer.trace.coupling)
        if len(set(parts)) == 1:
            halves = channels.view(len(parts), -1)
            tracer.trace.coupling.unify(halves, halves[:1])
        tracer.trace.splits += [(tracer.inside[-1], part) for part in channels.split_with_sizes(parts)]
    move(tracer, func, args, kwargs, out)


def cut(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Slices; in a dimension of channels, their start and length may be stored in the module."""
    move(tracer, func, args, kwargs, out)
    labels, dim = tracer.labels(args[0]), (args[1] if len(args) > 1 else 0) % args[0].dim()
    if labels is not None and tracer.state_of(args[0]) is None and labels.shape[dim] > 1:
        channels = vector(labels, dim, args[0].shape[dim], tracer.trace.coupling)
        start = args[2] if len(args) > 2 and args[2] is not None else 0
        for part in (channels[:start], channels[start : start + out.shape[dim]]):
            if 0 < len(part) < len(channels):
                tracer.trace.splits.append((tracer.inside[-1], part))


def concatenate(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """Concatenation; along all other dimensions the channels must be the same."""
    tensors = [tensor for tensor in args[0] if tensor.numel()]
    dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    if func._schema.name == "aten::stack":
        dim = dim % (tensors[0].dim() + 1)
        parts = [_stacked(tracer.labels(tensor), dim) for tensor in tensors]
        shapes = [(*tensor.shape[:dim], 1, *tensor.shape[dim:]) for tensor in tensors]
    else:
        dim = dim % tensors[0].dim()
        parts = [tracer.labels(tensor) for tensor in tensors]
        shapes = [tuple(tensor.shape) for tensor in tensors]
    coupling = tracer.trace.coupling
    across = sorted({d for part in parts if part is not None for d in varying(part) if d != dim})
    if not across:
        full = [_shaped(part, shape) for part, shape in zip(parts, shapes, strict=True)]
        return tracer.set(out, torch.cat(full, dim))
    if len(across) > 1 or any(
        part is not None and part.shape[dim] > 1 and bool((part < ELEMENTS).any()) for part in parts
    ):
        return unknown(tracer, func, args, kwargs, out)
    other = across[0]
    vectors = []
    for part, shape in zip(parts, shapes, strict=True):
        if part is not None:
            vectors.append(vector(part, other, shape[other], coupling))
    for found in vectors[1:]:
        coupling.unify(vectors[0], found)
    # labels of channels take precedence over those of parameters
    best = min(vectors, key=lambda found: bool((found >= ELEMENTS).any()) or not bool(found.any()))
    return tracer.set(out, along(best, other, out.dim()))


def _stacked(labels: Tensor | None, dim: int) -> Tensor | None:
    return None if labels is None else labels.unsqueeze(dim)


def _shaped(labels: Tensor | None, shape: Sequence[int]) -> Tensor:
    return torch.full([1] * len(shape), NONE).expand(shape) if labels is None else labels.expand(shape)


def regroup(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """Pixel shuffle (channels become squares of pixels), and shuffles between groups."""
    labels = tracer.labels(args[0])
    if labels is not None:
        dim = args[0].dim() - 3 if func._schema.name == "aten::pixel_shuffle" else 1
        numbers = vector(labels, dim, args[0].shape[dim], tracer.trace.coupling)
        if func._schema.name == "aten::pixel_shuffle":
            squares = numbers.view(-1, args[1] ** 2)
            tracer.trace.coupling.unify(squares, squares[:, :1])
        else:
            parts = numbers.view(args[1], -1)
            tracer.trace.coupling.unify(parts, parts[:1])
    move(tracer, func, args, kwargs, out)


def patches(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """Sliding windows; the operator does not support integers, but a double holds every label exactly."""
    full = tracer.full(args[0])
    if full is not None:
        tracer.set(out, func(full.double(), *args[1:], **kwargs).long())


def pad(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """Padding, which belongs to no channel."""
    full = tracer.full(args[0])
    if full is not None:
        tracer.set(out, func(full, args[1], NONE))


def embed(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """Rows of a table."""
    full = tracer.full(args[0])
    if full is not None:
        tracer.set(out, full[args[1]])


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


_MOVES = [
    *("permute", "transpose", "t", "expand", "select", "unsqueeze", "squeeze", "unbind", "alias", "detach"),
    *("roll", "flip", "repeat", "index", "index_select", "pixel_unshuffle"),
]
RULES: dict[str, Rule] = dict.fromkeys(_MOVES, move)
RULES |= dict.fromkeys(["view", "_unsafe_view", "reshape", "_reshape_alias"], view)
RULES |= dict.fromkeys(["split", "split_with_sizes", "unsafe_split"], split)
RULES |= dict.fromkeys(["cat", "stack"], concatenate) | {"slice": cut}
RULES |= dict.fromkeys(["pixel_shuffle", "channel_shuffle", "native_channel_shuffle"], regroup)
RULES |= {"im2col": patches, "constant_pad_nd": pad, "embedding": embed, "": unknown}
