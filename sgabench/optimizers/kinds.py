"""Kinds of masks: on filters, tensors, the largest gradients, or elements in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

from sgabench.optimizers import mask
from sgabench.optimizers.sampling import Drawn, Placed, drawn_now

Kind = Literal["element", "filter", "layer", "top-k", "cyclic"]

_WORDS = 2**32


def draw_kind(placed: Iterable[Placed], kind: Kind) -> Iterator[Drawn]:
    """The factors of placed parameters, for any kind but ``element``.

    Returns:
        Every parameter with its factor (divided by the rate if ``rescale``); None where the mask does not cover it.
    """
    for item in placed:
        factor = None
        if item.sampled:
            step, rate = drawn_now(item.group)
            factor = _FACTORS[kind](item, step, rate)
            if item.group["rescale"]:
                factor.div_(rate)
        yield Drawn(item.group, item.parameter, item.gradient, factor)


def _filter(item: Placed, step: int, rate: float) -> Tensor:
    """One draw for each slice along the first dimension: a filter, a row of a linear layer, an element of a vector."""
    parameter = item.parameter
    filters = parameter.shape[0] if parameter.ndim else 1
    drawn = mask.bernoulli(item.group["seed"], step, item.position, filters, rate, parameter.device)
    shape = (filters, *[1] * (parameter.ndim - 1)) if parameter.ndim else ()
    return drawn.view(shape).expand(parameter.shape).contiguous()


def _layer(item: Placed, step: int, rate: float) -> Tensor:
    """One draw for the whole tensor."""
    drawn = mask.bernoulli(item.group["seed"], step, item.position, 1, rate, item.parameter.device)
    return drawn.view([1] * item.parameter.ndim).expand(item.parameter.shape).contiguous()


def _top_k(item: Placed, _step: int, rate: float) -> Tensor:
    """The share s of the tensor's elements whose gradients are largest, at least one; nothing is drawn."""
    gradient = item.gradient
    kept = gradient.abs().flatten().topk(max(1, round(rate * gradient.numel()))).indices
    factor = torch.zeros(gradient.numel(), dtype=torch.float32, device=gradient.device)
    return factor.index_fill_(0, kept, 1.0).view(gradient.shape)


def _cyclic(item: Placed, step: int, rate: float) -> Tensor:
    """Each element in its turn: a phase u of its own, kept where the fraction of u + s t is below s.

    In n steps an element is kept s n times, rounded up or down: with s = 1/4, once in any four.
    """
    parameter = item.parameter
    phases = mask.random_bits(item.group["seed"], 0, item.position, parameter.numel(), parameter.device)
    share = round(rate * _WORDS)
    turned = (phases.long() + (_WORDS // 2 + step * share) % _WORDS) % _WORDS
    return (turned < share).float().view(parameter.shape)


_FACTORS: dict[Kind, Callable[[Placed, int, float], Tensor]] = {
    "filter": _filter,
    "layer": _layer,
    "top-k": _top_k,
    "cyclic": _cyclic,
}
