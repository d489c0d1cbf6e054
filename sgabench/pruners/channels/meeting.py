"""Elementwise operators of two operands."""

from __future__ import annotations

import torch
from torch import Tensor

from sgabench.pruners.channels.labels import ELEMENTS, NONE, varying
from sgabench.pruners.channels.tracing import Tracer


def meet(
    tracer: Tracer, labels: Tensor, sizes: list[int], others: Tensor, other_sizes: list[int]
) -> tuple[Tensor, list[int]]:
    """The labels and the shape of the result of two operands.

    Two channels in one place belong together. A channel that meets something of no channel must stay, because that does
    not shrink.

    Args:
        tracer: collects what belongs together.
        labels, sizes: of one operand: compact labels and its shape.
        others, other_sizes: of the other one, with as many dimensions.
    """
    coupling = tracer.trace.coupling
    size = [0 if 0 in pair else max(pair) for pair in zip(sizes, other_sizes, strict=True)]
    for one, two, two_sizes in ((labels, others, other_sizes), (others, labels, sizes)):
        if any(two_sizes[dim] == 1 for dim in varying(one)):
            coupling.freeze(two)  # broadcast over the channels of the other one, so part of none of them
            return one, size
    one, two = torch.broadcast_tensors(labels, others)  # type: ignore[no-untyped-call]
    both = (one != NONE) & (two != NONE)
    coupling.unify(one[both], two[both])
    coupling.freeze(one[~both])
    coupling.freeze(two[~both])
    # a channel's label takes precedence over that of a parameter's element
    channels = [torch.where(operand >= ELEMENTS, NONE, operand) for operand in (one, two)]
    found = torch.where(channels[0] == NONE, channels[1], channels[0])
    return torch.where(both & (found == NONE), one, found), size
