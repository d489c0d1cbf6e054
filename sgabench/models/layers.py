"""The layers of any network: the prunable set, what is at both ends, evaluation mode."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module gets its own mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def prunable_layers(network: nn.Module, excluded: Collection[str] = ()) -> dict[str, nn.Module]:
    """The layers whose weights pruners act on: convolutions and linear layers, by name.

    Biases and normalization layers are never among them, nor is the packed input projection of
    ``nn.MultiheadAttention``, which belongs to no layer. A weight that several layers share appears
    once, under its first name, and not at all if one of them is excluded.

    Args:
        network: any network.
        excluded: names of modules to leave out, with all that they contain.
    """
    layers = {name: module for name, module in network.named_modules() if isinstance(module, (_ConvNd, nn.Linear))}
    seen = {id(layer.weight) for name, layer in layers.items() if is_within(name, excluded)}
    prunable: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        if id(layer.weight) not in seen:
            seen.add(id(layer.weight))
            prunable[name] = layer
    return prunable


def is_within(name: str, modules: Collection[str]) -> bool:
    """Whether the module of that name is one of the modules, or a part of one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def weight_of(layer: nn.Module) -> nn.Parameter:
    """The weight of a prunable layer.

    Raises:
        TypeError: the weight is computed from others (a parametrization), so that it cannot be set.
    """
    weight = layer.weight
    if not isinstance(weight, nn.Parameter):
        raise TypeError(f"the weight of {type(layer).__name__} is parametrized and cannot be pruned in place")
    return weight


def prunable_weights(network: nn.Module, excluded: Collection[str] = ()) -> dict[str, nn.Parameter]:
    """The weights of the prunable layers, by the names of the layers.

    Raises:
        TypeError: as `weight_of`.
    """
    return {name: weight_of(layer) for name, layer in prunable_layers(network, excluded).items()}


def input_and_classifier(network: nn.Module, example: Tensor) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the layers that see the image and of those that give the logits, by running it once.

    The input layers are the first prunable layer that runs and all others that read the same tensor.
    The classifiers are the layers as wide as the network's output from which the logits are made
    without another layer between: two, where a network averages two heads. A network whose output has
    the width of no such layer has no classifier.

    Args:
        network: left as it was, BatchNorm statistics included.
        example: images (N, C, H, W).
    """
    calls: list[tuple[str, int]] = []
    alive: list[Tensor] = []  # while a tensor lives, no other one has its id
    layers = prunable_layers(network)

    def record(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
            read = next(iter([*args, *kwargs.values()]))
            alive.append(read)
            calls.append((name, id(read)))
            _made_by(output, frozenset([name]))

        return hook

    hooks = [layer.register_forward_hook(record(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with evaluating(network), _LastLayers():  # type: ignore[no-untyped-call]
            logits = network(example)
    finally:
        for handle in hooks:
            handle.remove()
    inputs = frozenset(name for name, read in calls if read == calls[0][1])
    last = getattr(logits, "_made_by", frozenset[str]())
    return inputs, frozenset(name for name in last if width_of(layers[name]) == logits.shape[-1])


def _made_by(tensor: object, layers: frozenset[str]) -> None:
    if isinstance(tensor, Tensor):
        tensor._made_by = layers  # type: ignore[attr-defined]


class _LastLayers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Passes on to what comes out of an operator which layers its operands were made by."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        found = [getattr(operand, "_made_by", None) for operand in tree_leaves((args, kwargs))]
        layers = frozenset[str]().union(*(layers for layers in found if layers))
        if layers:
            for tensor in tree_leaves(result):
                _made_by(tensor, layers)
        return result


def width_of(layer: nn.Module) -> int:
    """Output channels of a convolution, output features of a linear layer."""
    width = layer.out_channels if isinstance(layer, _ConvNd) else layer.out_features
    assert isinstance(width, int)
    return width
