"""The weights of any network: the prunable set, input layer and classifier; evaluation mode."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_T = TypeVar("_T")
_LAYERS = (_ConvNd, nn.Linear)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_FIRST_LAYER = re.compile(r"weight_ih(_l0)?(_reverse)?")


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module's mode is restored."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def prunable_layers(network: nn.Module, excluded: Collection[str] = ()) -> dict[str, nn.Module]:
    """Convolutions and linear layers by name; if some share a weight, only the first.

    Args:
        network: any network.
        excluded: names of modules to leave out, with all that they contain and all that share their weights.
    """
    layers = {name: module for name, module in network.named_modules() if isinstance(module, _LAYERS)}
    return _first_of_each(layers, lambda layer: layer.weight, excluded)


def prunable_weights(network: nn.Module, excluded: Collection[str] = ()) -> dict[str, nn.Parameter]:
    """The weights that pruners act on, by name.

    Those of convolutions and linear layers have the names of their layers. Input and recurrent weights of recurrent
    layers, and the packed input projection of ``nn.MultiheadAttention``, have names of their own, such as
    ``rnn.weight_hh_l0``. Biases and normalization layers are never included. A shared weight appears once, under its
    first name, and not at all if one of its names is excluded.

    Args:
        network: any network.
        excluded: names of weights or of modules to leave out, with all that they contain.

    Raises:
        TypeError: a weight is computed from others (a parametrization), so that it cannot be set.
    """
    weights: dict[str, nn.Parameter] = {}
    for name, module in network.named_modules():
        weights |= _weights_in(name, module)
    return _first_of_each(weights, lambda weight: weight, excluded)


def prunable_as_layers(network: nn.Module, excluded: Collection[str] = ()) -> dict[str, nn.Module]:
    """The layers of `prunable_weights`; weights outside convolutions and linear layers become linear layers.

    So every weight has inputs and outputs. Changing the weight of such a layer changes the network's.
    """
    modules = dict(network.named_modules())
    return {
        name: modules[name] if isinstance(modules.get(name), _LAYERS) else _linear(weight)
        for name, weight in prunable_weights(network, excluded).items()
    }


def weights_left_out(network: nn.Module) -> list[str]:
    """Names of the parameters of two or more dimensions that no pruner acts on, such as embeddings."""
    prunable = set(map(id, prunable_weights(network).values()))
    return [name for name, p in network.named_parameters() if p.dim() > 1 and id(p) not in prunable]


def is_within(name: str, modules: Collection[str]) -> bool:
    """Whether the module of that name is one of the modules, or part of one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def weight_of(layer: nn.Module) -> nn.Parameter:
    """The weight of a convolution or a linear layer.

    Raises:
        TypeError: the weight is computed from others (a parametrization), so that it cannot be set.
    """
    weight = layer.weight
    if not isinstance(weight, nn.Parameter):
        raise TypeError(f"the weight of {type(layer).__name__} is parametrized and cannot be pruned in place")
    return weight


def input_and_classifier(network: nn.Module, example: Tensor) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the weights that see the image and of those that compute the logits, found by running it once.

    Those that see the image belong to the first module with prunable weights that runs, and to all others that read
    the same tensor; in a recurrent network they are its first layer's input weights. The classifiers are the
    convolutions and linear layers as wide as the network's output from which the logits are computed without another
    layer in between: two, if a network averages two heads. A network whose output has the width of no such layer has
    no classifier.

    Args:
        network: it is not changed, including BatchNorm statistics.
        example: images (N, C, H, W).
    """
    calls: list[tuple[str, nn.Module, int]] = []
    alive: list[Tensor] = []  # while a tensor lives, no other one has its id

    def record(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            read = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            alive.append(read)
            calls.append((name, module, id(read)))
            for made in tree_leaves(output):
                _made_by(made, frozenset([name]))

        return hook

    prunable = prunable_weights(network).keys()
    owners = {name: m for name, m in network.named_modules() if not prunable.isdisjoint(_weights_in(name, m))}
    hooks = [module.register_forward_hook(record(name), with_kwargs=True) for name, module in owners.items()]
    try:
        with evaluating(network), _LastLayers():  # type: ignore[no-untyped-call]
            logits = network(example)
    finally:
        for handle in hooks:
            handle.remove()
    seeing = [(name, module) for name, module, read in calls if read == calls[0][2]]
    made_by = getattr(logits, "_made_by", frozenset[str]())
    wide = {name for name, of in owners.items() if isinstance(of, _LAYERS) and width_of(of) == logits.shape[-1]}
    return frozenset(weight for of in seeing for weight in _input_weights(*of)), frozenset(made_by & wide)


def _made_by(tensor: object, layers: frozenset[str]) -> None:
    if isinstance(tensor, Tensor):
        tensor._made_by = layers  # type: ignore[attr-defined]


class _LastLayers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Propagates to the output of each operator which layers made its operands."""

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


def _first_of_each(named: Mapping[str, _T], weight: Callable[[_T], Any], excluded: Collection[str]) -> dict[str, _T]:
    seen = {id(weight(value)) for name, value in named.items() if is_within(name, excluded)}
    first = {}
    for name, value in named.items():
        if id(weight(value)) not in seen:
            seen.add(id(weight(value)))
            first[name] = value
    return first


def _weights_in(name: str, module: nn.Module) -> dict[str, nn.Parameter]:
    """The prunable weights of a module itself, by their names in `prunable_weights`."""
    if isinstance(module, _LAYERS):
        return {name: weight_of(module)}
    if not isinstance(module, (*_RECURRENT, nn.MultiheadAttention)):
        return {}
    before = f"{name}." if name else ""
    parts = _PROJECTIONS if isinstance(module, nn.MultiheadAttention) else ("weight_",)
    own = module.named_parameters(recurse=False)
    return {before + attribute: weight for attribute, weight in own if attribute.startswith(parts)}


def _linear(weight: nn.Parameter) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = weight
    return layer


def _input_weights(name: str, module: nn.Module) -> list[str]:
    """Names of the weights of a module that multiply its input."""
    weights = _weights_in(name, module)
    if not isinstance(module, _RECURRENT):
        return list(weights)
    return [weight for weight in weights if _FIRST_LAYER.fullmatch(weight.rpartition(".")[2])]


def width_of(layer: nn.Module) -> int:
    """Output channels of a convolution, output features of a linear layer."""
    width = layer.out_channels if isinstance(layer, _ConvNd) else layer.out_features
    assert isinstance(width, int)
    return width
