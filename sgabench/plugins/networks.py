"""Networks of a plugin file without a decorator: any class or function, by its name."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

from sgabench.errors import InputError, suggestion
from sgabench.plugins.specs import ImageSpec

# Usual names of parameters for the number of classes and of image channels.
CLASSES = ("num_classes", "n_classes", "nb_classes", "classes")
CHANNELS = ("in_channels", "in_chans", "num_channels", "channels")


def network_of(file: str, module: types.ModuleType) -> Callable[..., Any]:
    """A source of models from a file: ``FILE:NAME`` calls the class or function of that name.

    Args:
        file: its name, for messages.
        module: the loaded file.
    """

    def network(name: str, spec: ImageSpec, **options: Any) -> Any:
        make = getattr(module, name, None)
        if not callable(make):
            there = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise InputError(f"{file} has no class or function {name!r}{suggestion(name, there)}")
        for parameters, value in ((CLASSES, spec.classes), (CHANNELS, spec.channels)):
            fitting = next((p for p in parameters if p in _parameters(make) and p not in options), None)
            options |= {fitting: value} if fitting else {}
        return make(**options)

    network.__doc__ = f"A class or a function of {file} that makes a network."
    return network


def _parameters(make: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(make).parameters)
    except (TypeError, ValueError):  # it is not written in Python
        return frozenset()
