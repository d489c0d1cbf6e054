"""Wanda: weights times the norm of their inputs."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sgabench.errors import InputError
from sgabench.models.layers import evaluating, prunable_weights
from sgabench.plugins import PruningContext


def input_norms(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """|weight| x the root of the sum of squares of the inputs that it is multiplied with (Sun et al. 2023,
    arXiv 2306.11695, equation 1), over all training images in the context.

    A weight of a convolution is multiplied with an input at every position of the output. The sum of their squares is
    the gradient of the layer's summed output for squared inputs. The paper compares only weights of the same output
    with each other; here the allocation decides that.

    Raises:
        InputError: a weight of a recurrent layer or of attention's projections, whose inputs are not visible.
    """
    weights = prunable_weights(network, context.excluded)
    sums = {id(weight): torch.zeros_like(weight, dtype=torch.float32) for weight in weights.values()}
    seen: set[int] = set()

    def adding(layer: nn.Module) -> Any:
        plain: Any = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn.modules"))
        twin, total = _of_ones(layer), sums[id(layer.weight)]

        def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            seen.add(id(layer.weight))
            with torch.enable_grad():
                outputs = plain.forward(twin, args[0].detach().float().square())
                total.add_(torch.autograd.grad(outputs.sum(), [twin.weight])[0])

        return add

    layers = [m for m in network.modules() if isinstance(m, (_ConvNd, nn.Linear)) and id(m.weight) in sums]
    hooks = [layer.register_forward_hook(adding(layer)) for layer in layers]
    try:
        with evaluating(network):
            for images, _ in context.batches():
                network(images)
    finally:
        for hook in hooks:
            hook.remove()
    unknown = [name for name, weight in weights.items() if id(weight) not in seen]
    if unknown:
        raise InputError(f"score 'wanda' cannot see what {unknown[0]} is multiplied with; choose another score")
    return {name: weight.detach().float().abs() * sums[id(weight)].sqrt() for name, weight in weights.items()}


def _of_ones(layer: Any) -> Any:
    """The same layer with all weights one and no bias."""
    twin = copy.deepcopy(layer)
    twin.weight = nn.Parameter(torch.ones_like(layer.weight, dtype=torch.float32))
    twin.bias = None
    return twin
