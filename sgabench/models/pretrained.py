"""Published weights of timm and torchvision: their normalization, and the layers replaced for a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from sgabench.errors import InputError, similar

_ATTRIBUTE = "published_weights"
_RGB = 3


def published_normalization(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation that the published weights of a model were trained with, for pixels in [0, 1].

    Args:
        name: as in suites.

    Raises:
        InputError: there are none.
    """
    source, _, inside = name.partition(":")
    found: Any = None
    known: list[str] = []
    if source == "timm":
        import timm

        known = timm.list_models()
        with contextlib.suppress(RuntimeError):  # weights that the model does not have
            found = timm.get_pretrained_cfg(inside)
    elif source == "torchvision":
        import torchvision

        known = torchvision.models.list_models()
        if inside in known:
            found = torchvision.models.get_model_weights(inside).DEFAULT.transforms()
    if found is None and known and inside.partition(".")[0] not in known:
        module = "timm" if source == "timm" else "torchvision.models"
        raise InputError(f"unknown model {name!r}{similar(inside, known) or f'; see {module}.list_models()'}")
    if found is None:
        raise InputError(
            f"normalize = 'pretrained': no weights of {name!r} are published; "
            "write normalize = {mean = [...], std = [...]}, as it was trained with"
        )
    return tuple(found.mean), tuple(found.std)


def mark_published(network: nn.Module, weights: str, replaced: Sequence[str]) -> None:
    """Note on a network which published weights it has, and which layers were replaced for the data set."""
    setattr(network, _ATTRIBUTE, {"weights": weights, "replaced": list(replaced)})


def published_weights(network: nn.Module) -> dict[str, Any] | None:
    """The note of `mark_published`, if there is one."""
    return getattr(network, _ATTRIBUTE, None)


def fit_input(network: nn.Module, name: str, channels: int) -> None:
    """Adapt a network of colour images to another number of channels: each gets the mean of the three's weights.

    Activations keep their scale, as if the image was shown in all channels.
    """
    old = network.get_submodule(name)
    assert isinstance(old, nn.Conv2d)
    weight = old.weight.detach().mean(dim=1, keepdim=True) * (_RGB / channels)
    old.in_channels = channels
    old.weight = nn.Parameter(weight.repeat(1, channels, 1, 1))


def fit_classifier(network: nn.Module, name: str, classes: int) -> None:
    """Replace the classifier by an untrained one of another width."""
    old = network.get_submodule(name)
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, classes, bias=old.bias is not None)
    elif isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, classes, 1, bias=old.bias is not None)
    else:
        raise InputError(f"its classifier is a {type(old).__name__}, which cannot be replaced")
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)
