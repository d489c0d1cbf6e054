"""Optimizers of other packages by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch.optim import Optimizer

from sgabench.errors import InputError, foreign, suggestion
from sgabench.optimizers.sources import options_of

NamedParameters = list[tuple[str, Any]]

_SCHEDULE_FREE = {"AdamW": "AdamWScheduleFree", "RAdam": "RAdamScheduleFree", "SGD": "SGDScheduleFree"}


def build_schedule_free(name: str, parameters: NamedParameters, options: Mapping[str, Any]) -> Optimizer:
    """Make one of the package schedulefree.

    Raises:
        InputError: the package is missing; an unknown name or option; a value that the class refuses.
    """
    package = _extra("schedulefree")
    if name not in _SCHEDULE_FREE:
        raise InputError(f"schedulefree has no optimizer {name!r}{suggestion(name, _SCHEDULE_FREE)}")
    kind = getattr(package, _SCHEDULE_FREE[name])
    values = options_of(kind, name, options)
    with foreign(f"schedulefree.{kind.__name__} refuses its options: "):
        built: Optimizer = kind(parameters, **values)
    return built


def _extra(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"the package {module} is not installed: pip install 'sgabench[optimizers]'") from None
