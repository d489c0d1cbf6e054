"""Patterns on tensors: which weights of a layer go together.

A layer is treated as a matrix with a row for each output channel, and in it, for each position of the kernel, the input
channels: the matrix that a convolution multiplies by in channels-last format.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from sgabench.pruners.parts import Pattern


def as_rows(layer: nn.Module, values: Tensor) -> Tensor:
    """A layer's values for each weight, as (output channels, positions of the kernel, input channels)."""
    if isinstance(layer, _ConvTransposeNd):
        inputs, outputs, *kernel = values.shape
        parts = values.reshape(layer.groups, inputs // layer.groups, outputs, *kernel)
        values = parts.transpose(1, 2).reshape(layer.groups * outputs, inputs // layer.groups, *kernel)
    return values.reshape(*values.shape[:2], -1).transpose(1, 2)


def removable(layer: nn.Module, scores: Tensor, pattern: Pattern) -> Tensor:
    """The weights that N:M removes: the lowest M - N of every M input channels, at each position of the kernel.

    If M does not divide a row, the rest keeps at most N, too. The grouping of input channels is that of the hardware
    (Mishra et al. 2021, arXiv 2104.08378).

    Args:
        scores: of equal ones the first are removed.

    Returns:
        bool, of the shape of the scores.
    """
    kept, size = pattern.sizes
    rows = as_rows(layer, scores).double()
    missing = -rows.shape[-1] % size
    # Padding of the last group is removed first, so that at most N weights stay.
    padded = torch.nn.functional.pad(rows, (0, missing), value=-torch.inf)
    padded = padded.view(*rows.shape[:2], -1, size)
    order = padded.argsort(dim=-1, stable=True)[..., : size - kept]
    taken = torch.zeros_like(padded, dtype=torch.bool).scatter_(-1, order, True)
    return _from_rows(layer, taken.flatten(-2)[..., : rows.shape[-1]])


def units_of(layer: nn.Module, like: Tensor, pattern: Pattern) -> Tensor:
    """The number of each weight's group: int64, of the shape of the weights.

    Blocks at the lower and right ends of the matrix may be smaller.
    """
    places = as_rows(layer, torch.arange(like.numel(), device=like.device).view(like.shape)).flatten(1)
    rows, columns = (torch.arange(length, device=like.device) for length in places.shape)
    if pattern.kind == "filters":
        units = rows[:, None].expand(places.shape)
    else:
        height, width = pattern.sizes
        across = -(-len(columns) // width)
        units = (rows // height)[:, None] * across + (columns // width)[None, :]
    numbers = torch.empty(like.numel(), dtype=torch.int64, device=like.device)
    numbers[places.reshape(-1)] = units.reshape(-1)
    return numbers.view(like.shape)


def _from_rows(layer: nn.Module, rows: Tensor) -> Tensor:
    """The inverse of `as_rows`."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    places = as_rows(layer, torch.arange(weight.numel(), device=rows.device).view(weight.shape))
    values = torch.empty(weight.numel(), dtype=rows.dtype, device=rows.device)
    values[places.reshape(-1)] = rows.reshape(-1)
    return values.view(weight.shape)
