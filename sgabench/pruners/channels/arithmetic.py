"""Operators that compute elementwise, over positions, or over everything."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from sgabench.pruners.channels.labels import along, vector
from sgabench.pruners.channels.meeting import meet
from sgabench.pruners.channels.movement import unknown
from sgabench.pruners.channels.tracing import Rule, Tracer

Args = tuple[Any, ...]
Named = dict[str, Any]


def pointwise(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Any) -> None:
    """Elementwise: operands in the same place belong to the same channel."""
    result: tuple[Tensor, list[int]] | None = None
    dims = next((value.dim() for value in tree_leaves(out) if isinstance(value, Tensor)), 0)
    for operand in tree_leaves((args, kwargs)):
        if isinstance(operand, Tensor):
            labels = tracer.labels(operand)
            if labels is not None:
                missing = dims - operand.dim()
                padded = labels.view([1] * missing + list(labels.shape))
                sizes = [1] * missing + list(operand.shape)
                result = (padded, sizes) if result is None else meet(tracer, *result, padded, sizes)
    for value in tree_leaves(out):
        if isinstance(value, Tensor):
            tracer.set(value, None if result is None else result[0])


def reduce(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Any) -> None:
    """Reductions: channels that are reduced over must stay."""
    given = args[0]
    labels = tracer.labels(given)
    if labels is None:
        return unknown(tracer, func, args, kwargs, out)
    arguments = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
    dims = arguments.get("dim")
    dims = range(given.dim()) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    dims = sorted({dim % given.dim() for dim in dims}) if given.dim() else []
    if any(labels.shape[dim] > 1 for dim in dims):
        tracer.trace.coupling.freeze(labels)
    for dim in dims:
        labels = labels.narrow(dim, 0, 1)
    if not arguments.get("keepdim", False):
        labels = labels.reshape([size for dim, size in enumerate(labels.shape) if dim not in dims])
    for result in tree_leaves(out):
        if isinstance(result, Tensor):
            tracer.set(result, labels if result.dim() == labels.dim() else None)
    return None


def softmax(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Tensor) -> None:
    """Softmax: all elements that it is taken over depend on each other."""
    labels = tracer.labels(args[0])
    if labels is not None and labels.shape[args[1]] > 1:
        tracer.trace.coupling.freeze(labels)
    tracer.set(out, labels)


def gate(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Tensor) -> None:
    """`glu`: the first half times the sigmoid of the second."""
    labels = tracer.labels(args[0])
    dim = (args[1] if len(args) > 1 else -1) % args[0].dim()
    if labels is None:
        return unknown(tracer, func, args, kwargs, out)
    first, second = vector(labels, dim, args[0].shape[dim], tracer.trace.coupling).view(2, -1)
    tracer.trace.coupling.unify(first, second)
    tracer.set(out, along(first, dim, out.dim()))
    return None


def over_places(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Any) -> None:
    """Pooling and resizing: each channel by itself, if channels are in their usual dimension."""
    labels = tracer.labels(args[0])
    if labels is None:
        return unknown(tracer, func, args, kwargs, out)
    channels = args[0].dim() - 1 - next(n for n in (1, 2, 3) if f"{n}d" in func._schema.name)
    numbers = vector(labels, channels, args[0].shape[channels], tracer.trace.coupling)
    for result in tree_leaves(out):
        if isinstance(result, Tensor):
            tracer.set(result, along(numbers, channels, result.dim()))
    return None


def into_place(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Tensor) -> None:
    """`copy_` into a part of another tensor, whose labels are not followed."""
    if args[0]._base is not None or args[0].shape != args[1].shape:
        return unknown(tracer, func, args, kwargs, out)
    return tracer.set(args[0], tracer.full(args[1]))


_OVER_PLACES = [
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("adaptive_max_pool2d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d"),
    *("upsample_nearest1d", "upsample_linear1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "reflection_pad1d", "reflection_pad2d"),
    *("replication_pad1d", "replication_pad2d"),
]
_OVER_DIMENSIONS = [
    *("mean", "sum", "amax", "amin", "max", "min", "argmax", "all", "any", "prod", "logsumexp"),
    *("var", "var_mean", "std", "std_mean", "norm", "linalg_vector_norm"),
]
RULES: dict[str, Rule] = {
    **dict.fromkeys(["pointwise", "clone", "_to_copy"], pointwise),
    **dict.fromkeys(_OVER_PLACES, over_places),
    **dict.fromkeys(_OVER_DIMENSIONS, reduce),
    **dict.fromkeys(["_softmax", "_safe_softmax", "_log_softmax"], softmax),
    "glu": gate,
    "copy_": into_place,
}
