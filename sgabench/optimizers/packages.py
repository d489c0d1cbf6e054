"""Optimizers of other packages by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch.optim import Optimizer

from sgabench.errors import InputError, foreign, suggestion
from sgabench.optimizers.lbfgs import LBFGS
from sgabench.optimizers.sources import options_of
from sgabench.plugins import TrainingContext

NamedParameters = list[tuple[str, Any]]

_SCHEDULE_FREE = {"AdamW": "AdamWScheduleFree", "RAdam": "RAdamScheduleFree", "SGD": "SGDScheduleFree"}
_SECOND_ORDER = "needs gradients of gradients, which the training loop does not make"
_NO_LR = "has no learning rate of its own that the schedule could change; set lr"
# Muon's family: they must be given their parameters explicitly.
_OF_MUON = ("adago", "adamuon", "distributedmuon", "muon", "muonclip", "normuon")
_REFUSED = {
    **dict.fromkeys(("adahessian", "sophiah"), _SECOND_ORDER),
    **dict.fromkeys(("adalomo", "adammini", "lomo"), "takes a whole network, not its parameters"),
    **dict.fromkeys(("a2grad", "alig"), "has no learning rate that a schedule could change"),
    **dict.fromkeys(("madgrad", "spam"), "cannot resume from its own state dict"),
}


def schedule_free_names() -> list[str]:
    """The optimizers of schedulefree."""
    return sorted(_SCHEDULE_FREE)


def build_schedule_free(name: str, parameters: NamedParameters, options: Mapping[str, Any]) -> Optimizer:
    """Make one of the package schedulefree.

    Raises:
        InputError: the package is missing; an unknown name or option; a value that the class refuses.
    """
    package = _extra("schedulefree")
    _check_name("schedulefree", name, schedule_free_names())
    kind = getattr(package, _SCHEDULE_FREE[name])
    values = options_of(kind, name, options)
    with foreign(f"schedulefree.{kind.__name__} refuses its options: "):
        built: Optimizer = kind(parameters, **values)
    return built


def timm_names() -> list[str]:
    """The optimizers of timm that need no other package."""
    # bitsandbytes and Apex, which timm offers to wrap, are for CUDA and not among what sgabench installs.
    return [name for name in _timm().list_optimizers() if not name.startswith(("bnb", "fused"))]


def build_timm(name: str, parameters: NamedParameters, options: Mapping[str, Any]) -> Optimizer:
    """Make one by timm's factory, with its defaults: no weight decay, and momentum 0.9 where there is one.

    Raises:
        InputError: an unknown name or option; a value that the class refuses; gradients of gradients are needed.
    """
    _check_name("timm", name, timm_names())
    factory = _timm()
    info = factory.get_optimizer_info(name)
    if info.second_order:
        raise InputError(f"timm:{name} {_SECOND_ORDER}")
    values = options_of(info.opt_class, name, options)
    with foreign(f"timm's {name} refuses its options: "):
        built: Optimizer = factory.create_optimizer_v2(parameters, opt=name, **values)
    if any(group["lr"] is None for group in built.param_groups):
        raise InputError(f"timm:{name} {_NO_LR}")
    return built


def pytorch_optimizer_names() -> list[str]:
    """The optimizers of pytorch_optimizer."""
    return sorted(_extra("pytorch_optimizer").get_supported_optimizers())


def build_pytorch_optimizer(
    name: str, parameters: NamedParameters, context: TrainingContext, options: Mapping[str, Any]
) -> Optimizer:
    """Make one of the package pytorch_optimizer.

    Muon's family gets the parameters of two or more dimensions, and AdamW the others. Optimizers that need the number
    of steps get it.

    Raises:
        InputError: the package is missing; an unknown name or option; a value that the class refuses; an optimizer
            that the loop cannot host.
    """
    package = _extra("pytorch_optimizer")
    _check_name("pytorch_optimizer", name, pytorch_optimizer_names())
    if name in _REFUSED:
        raise InputError(f"pytorch_optimizer:{name} {_REFUSED[name]}")
    kind = LBFGS if name == "lbfgs" else package.load_optimizer(name)
    values = options_of(kind, name, options)
    if "num_iterations" in inspect.signature(kind).parameters:
        values.setdefault("num_iterations", context.steps)
    given: Any = _matrices_apart(parameters) if name in _OF_MUON else parameters
    with foreign(f"pytorch_optimizer.{kind.__name__} refuses its options: "):
        built: Optimizer = kind(given, **values)
    return built


def _matrices_apart(parameters: NamedParameters) -> list[dict[str, Any]]:
    parts = [[pair for pair in parameters if (pair[1].ndim >= 2) is matrices] for matrices in (True, False)]
    groups = zip(parts, (True, False), strict=True)
    return [{"params": part, "use_muon": matrices} for part, matrices in groups if part]


def _check_name(source: str, name: str, valid: list[str]) -> None:
    if name not in valid:
        raise InputError(f"{source} has no optimizer {name!r}{suggestion(name, valid)}")


def _timm() -> Any:
    return importlib.import_module("timm.optim")  # takes a while, so only if one of its optimizers is used


def _extra(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"the package {module} is not installed: pip install 'sgabench[optimizers]'") from None
