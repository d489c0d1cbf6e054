"""Normalizations, which keep channels separate but may take statistics over several of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sgabench.pruners.channels.labels import along, vector
from sgabench.pruners.channels.movement import unknown
from sgabench.pruners.channels.tracing import Rule, Tracer

Args = tuple[Any, ...]
Named = dict[str, Any]


def normalize_batch(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Any) -> None:
    """Batch normalization: statistics of each channel by itself."""
    labels = tracer.labels(args[0])
    if labels is None:
        return unknown(tracer, func, args, kwargs, out)
    channels = vector(labels, 1, args[0].shape[1], tracer.trace.coupling)
    _unify_states(tracer, args[1:5], channels)
    results = out if isinstance(out, (tuple, list)) else [out]
    tracer.set(results[0], along(channels, 1, args[0].dim()))
    return None


def _unify_states(tracer: Tracer, states: Args, channels: Tensor) -> None:
    for value in states:
        if isinstance(value, Tensor):
            labels = tracer.labels(value)
            if labels is not None:
                tracer.trace.coupling.unify(labels.expand(value.shape), channels)


def normalize_layer(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Any) -> None:
    """`native_layer_norm` and `_fused_rms_norm`: input, shape, weight, bias; statistics over the last dimensions."""
    given, shape = args[:2]
    labels = tracer.labels(given)
    if labels is None:
        return unknown(tracer, func, args, kwargs, out)
    own = labels.shape[-len(shape) :]
    inside = labels.reshape(own) if labels.numel() == torch.Size(own).numel() else None
    if inside is None:  # over positions, each channel by itself
        if inside is None and any(size > 1 for size in own):
            tracer.trace.coupling.freeze(labels)
        for value in args[2:4]:
            if isinstance(value, Tensor):
                tracer.trace.coupling.freeze(tracer.labels_or_none(value))
        tracer.trace.norms.append(None)
    else:
        for value in args[2:4]:
            if isinstance(value, Tensor):
                tracer.trace.coupling.unify(tracer.labels_or_none(value), inside)
        tracer.trace.norms.append(inside)
    results = out if isinstance(out, (tuple, list)) else [out]
    tracer.set(results[0], labels)
    return None


def normalize_groups(tracer: Tracer, func: Any, args: Args, kwargs: Named, out: Any) -> None:
    """`native_group_norm`: input, weight, bias, N, C, pixels, groups, eps."""
    labels, groups = tracer.labels(args[0]), args[6]
    if labels is None:
        return unknown(tracer, func, args, kwargs, out)
    channels = vector(labels, 1, args[4], tracer.trace.coupling)
    if groups < args[4]:
        parts = channels.view(groups, -1)
        tracer.trace.coupling.unify(parts, parts[:1])
    _unify_states(tracer, args[1:3], channels)
    tracer.trace.norms.append(channels)
    tracer.set(out[0], along(channels, 1, args[0].dim()))
    return None


# Those that take statistics over channels.
OVER_CHANNELS: dict[str, Rule] = {
    "native_layer_norm": normalize_layer,
    "_fused_rms_norm": normalize_layer,
    "native_group_norm": normalize_groups,
}
RULES = OVER_CHANNELS | dict.fromkeys(
    ["native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "cudnn_batch_norm"],
    normalize_batch,
)
