"""The importances of torch-pruning, and the options of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sgabench.errors import InputError, suggestion

_GROUP = ("group_reduction", "normalizer")
# The options that have an effect, with the names that torch-pruning gives them; `images` is ours.
TAKEN: dict[str, tuple[str, ...]] = {
    "ActivationImportance": _GROUP,
    "BNScaleImportance": _GROUP,
    "FPGMImportance": ("p", *_GROUP),
    "GroupHessianImportance": (*_GROUP, "bias", "images"),
    "GroupMagnitudeImportance": ("p", *_GROUP, "bias"),
    "GroupTaylorImportance": (*_GROUP, "bias", "multivariable"),
    "HessianImportance": (*_GROUP, "bias", "images"),
    "LAMPImportance": ("p", "group_reduction", "bias"),
    "MagnitudeImportance": ("p", *_GROUP, "bias"),
    "OBDCImportance": (*_GROUP, "images"),
    "RandomImportance": (),
    "TaylorImportance": (*_GROUP, "bias", "multivariable"),
}
OPTIONS = ("p", *_GROUP, "bias", "multivariable", "images")


def check_importance(name: str, options: Mapping[str, Any]) -> None:
    """Refuse unknown classes, and options that have no effect on a class.

    Args:
        name: with or without ``tp:``.
        options: those that are None, or common to all pruners of channels, are ignored.

    Raises:
        InputError: names what is valid.
    """
    name = name.removeprefix("tp:")
    if name not in TAKEN:
        raise InputError(f"unknown importance {name!r} of torch-pruning{suggestion(name, importance_names())}")
    for option in OPTIONS:
        if options.get(option) is not None and option not in TAKEN[name]:
            valid = f"valid: {', '.join(TAKEN[name])}" if TAKEN[name] else "it has no options of its own"
            raise InputError(f"{option}: 'tp:{name}' does not take it; {valid}")


def importance_names() -> Iterable[str]:
    """Names of classes of ``torch_pruning.importance``."""
    return TAKEN
