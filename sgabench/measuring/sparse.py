"""2:4 sparse networks in the format of the kernels that multiply half as much: on CUDA, compute capability 8.0 or more.

Other networks with weights at zero are as fast as before, because zeros are multiplied like other numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from sgabench.errors import InputError, describe
from sgabench.measuring.timing import speed_of
from sgabench.models.layers import evaluating, prunable_layers

# Relative to the largest logit; the kernels add in another order, with 8 bits of mantissa in bfloat16.
TOLERANCES = {torch.float32: 1e-2, torch.bfloat16: 5e-2}


def compress(network: nn.Module, excluded: Collection[str]) -> int:
    """Convert the weights of 2:4 sparse linear layers to the format of CUDA's kernels for them.

    Returns:
        The number of these layers.

    Raises:
        InputError: there are none, or the kernels accept none of them.
    """
    packed, problem = 0, "no prunable linear layer has two zeros in every four weights"
    for layer in prunable_layers(network, excluded).values():
        if not isinstance(layer, nn.Linear) or not _is_two_of_four(layer.weight):
            continue
        try:
            layer.weight = nn.Parameter(to_sparse_semi_structured(layer.weight.detach()), requires_grad=False)
            packed += 1
        except (RuntimeError, ValueError) as error:  # for unsupported sizes, types and devices
            problem = describe(error)
    if not packed:
        raise InputError(problem)
    return packed


def speed_of_pattern(
    network: nn.Module,
    batch: Tensor,
    alone: Callable[[], AbstractContextManager[bool]],
    dense: nn.Module,
    excluded: Collection[str],
    *,
    precision: Literal["fp32", "bf16"],
    min_run_time: float,
) -> dict[str, Any]:
    """As `speed_of`, for the network in the kernels' format, if they accept it and give the same results.

    The dense network is timed in the same type. ``sparse_layers`` is the number of layers that run on these kernels; if
    there are none, ``pattern_only`` says why, and the times are those of a network with weights at zero.

    Args:
        excluded: modules that were not pruned; the others as for `speed_of`.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    masked, images = copy.deepcopy(network).to(dtype), batch.to(dtype)
    sparse = copy.deepcopy(masked)
    try:
        packed = compress(sparse, excluded)
        with evaluating(sparse), evaluating(masked):
            check_logits(sparse(images), masked(images))
    except (InputError, RuntimeError, NotImplementedError) as error:  # the last: PyTorch has no kernel for it
        found = speed_of(network, batch, alone, dense, precision=precision, min_run_time=min_run_time)
        return found | {"pattern_only": str(error) if isinstance(error, InputError) else describe(error)}
    twin = copy.deepcopy(dense).to(dtype)
    found = speed_of(sparse, images, alone, twin, precision="fp32", min_run_time=min_run_time)  # without autocast
    return found | {"sparse_layers": packed}


def check_logits(found: Tensor, expected: Tensor) -> None:
    """Compare the logits of the kernels with those of the masked network.

    Raises:
        InputError: they differ by more than rounding.
    """
    difference = float((found.float() - expected.float()).abs().max() / expected.float().abs().max())
    if not difference <= TOLERANCES[expected.dtype]:
        raise InputError(f"the kernels give different logits: they differ by {difference:.1%} of the largest")


def _is_two_of_four(weight: Tensor) -> bool:
    return weight.shape[1] % 4 == 0 and bool(((weight.detach().view(-1, 4) != 0).sum(1) <= 2).all())
