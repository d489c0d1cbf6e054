"""Classes of torch.optim by name, with complaints that a suite's author can act on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import optim
from torch.optim import Optimizer

from sgabench.errors import InputError, foreign, similar, suggestion
from sgabench.optimizers.declared import needs_closure
from sgabench.optimizers.lbfgs import LBFGS
from sgabench.optimizers.wrapping import Wrapper

_REFUSED = {"SparseAdam": "it only takes sparse gradients, and these networks have dense ones"}
# Equal to the others to rounding, and two to three times as fast on many small tensors.
_FUSED = {"Adam", "AdamW", "SGD"}
_NO_OPTIONS = ("seed", "distribution", "steps")  # of a wrapper, which a suite does not set


def names() -> list[str]:
    """The classes of torch.optim, those that cannot be used, too."""
    return sorted(_known())


def _known() -> dict[str, type[Optimizer]]:
    return {
        attribute: value
        for attribute, value in vars(optim).items()
        if isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer
    }


def optimizer_names() -> list[str]:
    """The classes of torch.optim that can be named."""
    return sorted(_known().keys() - _REFUSED.keys())


def optimizer_class(name: str) -> type[Optimizer]:
    """The class of torch.optim of that name.

    Raises:
        InputError: there is none, or it cannot work in the training loop.
    """
    known = _known()
    if name in _REFUSED:
        raise InputError(f"optimizer class {name!r} cannot be used: {_REFUSED[name]}")
    if name not in known:
        raise InputError(f"torch.optim has no optimizer {name!r}{suggestion(name, known.keys() - _REFUSED.keys())}")
    return LBFGS if name == "LBFGS" else known[name]


def build(
    name: str, parameters: list[tuple[str, Any]], options: Mapping[str, Any], also_valid: tuple[str, ...] = ()
) -> Optimizer:
    """Make an optimizer of torch.optim.

    Args:
        name: the class.
        parameters: named parameters.
        options: its keyword arguments; lists stand for tuples.
        also_valid: options beside the class's own, for the message.

    Raises:
        InputError: an unknown class or option, or a value that the class refuses.
    """
    kind = optimizer_class(name)
    values = options_of(kind, name, options, also_valid)
    if name == "Muon" and any(parameter.ndim != 2 for _, parameter in parameters):
        raise InputError("torch.optim.Muon takes matrices only; timm:muon leaves all else to AdamW")
    if name in _FUSED and not values.keys() & {"fused", "foreach", "differentiable"}:
        values["fused"] = all(_can_fuse(parameter) for _, parameter in parameters)
    with foreign(f"torch.optim.{name} refuses its options: "):
        return kind(parameters, **values)


def options_of(
    kind: type[Optimizer], name: str, options: Mapping[str, Any], also_valid: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Keyword arguments for a class, from options as a suite has them; what is named ``params`` or goes on is none.

    Raises:
        InputError: the class has no such option; the message starts with it.
    """
    parameters = inspect.signature(kind).parameters.values()
    accepted = [p.name for p in parameters if p.name != "params" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    for option in options:
        if option not in accepted:
            valid = [*accepted, *also_valid]
            hint = similar(option, valid)
            raise InputError(f"{option}: {name} has no such option{hint}; it accepts {', '.join(valid)}")
    return {option: tuple(value) if isinstance(value, list) else value for option, value in options.items()}


def build_around(
    wrapper: Callable[..., Wrapper],
    name: str,
    parameters: list[tuple[str, Any]],
    options: Mapping[str, Any],
    **own: Any,
) -> Wrapper:
    """Make an optimizer around one of torch.optim which steps on gradients that the wrapper has changed.

    Args:
        wrapper: its class.
        own: keyword arguments of the wrapper.

    Raises:
        InputError: as `build`; options of the wrapper that contradict each other; a class that takes its gradients
            itself, from a closure.
    """
    base = build(name, parameters, options, tuple(option for option in own if option not in _NO_OPTIONS))
    if needs_closure(base):
        raise InputError(f"{name} cannot be wrapped: it computes its gradients itself, several per step")
    try:
        return wrapper(base, **own)
    except ValueError as error:
        raise InputError(str(error)) from error


def _can_fuse(parameter: torch.Tensor) -> bool:
    return parameter.device.type in ("cpu", "cuda") and parameter.is_floating_point()
