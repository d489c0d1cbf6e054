"""Networks of timm and torchvision, adapted to a data set's channels, size and classes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgabench.errors import InputError, foreign, shorten, suggestion
from sgabench.models.layers import input_and_classifier
from sgabench.models.pretrained import fit_classifier, fit_input, mark_published
from sgabench.plugins import ImageSpec

Stem = Literal["default", "cifar"]
_STEM = ["conv1"]  # replaced by `replace_stem`

# options decided by the data set, that load weights, or that make a network return more than logits
RESERVED = frozenset(
    {
        *("num_classes", "in_chans", "img_size", "image_size", "input_size"),
        *("weights", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
        *("aux_logits", "features_only"),
    }
)


def build_timm(name: str, spec: ImageSpec, stem: Stem, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    """Build a network of timm.

    Args:
        name: as in `timm.list_models()`.
        spec: what it must accept and return.
        stem: see `replace_stem`.
        pretrained: load the published weights, with timm's own loader and cache.
        options: go to the constructor.

    Raises:
        InputError: unknown name, wrong option, unavailable weights, or a network that cannot take such images.
    """
    import timm

    label = f"model 'timm:{name}'"
    _check_name(label, name, timm.list_models())
    _check_options(label, options)
    fitted: dict[str, Any] = {"num_classes": spec.classes, "in_chans": spec.channels}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        fitted["img_size"] = (spec.height, spec.width)
    with foreign(_cannot_be_built(label, spec, options, pretrained)), _quiet_downloads():
        network = timm.create_model(name, pretrained=pretrained, **fitted, **options)
    if pretrained:
        its: Any = network.pretrained_cfg
        new = [its["classifier"]] * (its["num_classes"] != spec.classes)
        new += [its["first_conv"]] * (its["input_size"][0] != spec.channels)
        source = its.get("hf_hub_id") or its.get("url") or its.get("file") or name
        mark_published(network, str(source), [str(part) for part in new] + _STEM * (stem == "cifar"))
    return _finished(label, network, spec, stem)


def build_torchvision(
    name: str, spec: ImageSpec, stem: Stem, pretrained: bool, options: Mapping[str, Any]
) -> nn.Module:
    """Build a classification network of torchvision.

    Args:
        name: as in `torchvision.models.list_models(module=torchvision.models)`.
        spec: what it must accept and return; for other than 3 channels the first convolution is replaced.
        stem: see `replace_stem`.
        pretrained: load the published weights, with torchvision's own loader and cache.
        options: go to the constructor.

    Raises:
        InputError: unknown name, wrong option, unavailable weights, or a network that cannot take such images.
    """
    import torchvision

    label = f"model 'torchvision:{name}'"
    _check_name(label, name, torchvision.models.list_models(module=torchvision.models))
    _check_options(label, options)
    if pretrained:
        return _finished(label, _published(label, name, spec, stem, options), spec, stem)
    fitted: dict[str, Any] = {"num_classes": spec.classes}
    if name.startswith("vit_"):
        fitted["image_size"] = _side_of_square(label, spec)
    elif name.startswith("maxvit"):
        fitted["input_size"] = (spec.height, spec.width)
    elif name in {"googlenet", "inception_v3"}:  # their auxiliary classifiers add outputs when training
        fitted |= {"aux_logits": False, "init_weights": True}
    with foreign(_cannot_be_built(label, spec, options)):
        network = torchvision.models.get_model(name, weights=None, **(fitted | dict(options)))
    if spec.channels != 3:
        _replace_input(network, spec.channels)
    return _finished(label, network, spec, stem)


def _published(label: str, name: str, spec: ImageSpec, stem: Stem, options: Mapping[str, Any]) -> nn.Module:
    """A network of torchvision with its published weights; layers that do not fit the data set are replaced."""
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    fitted = {"aux_logits": False} if name == "inception_v3" else {}
    with foreign(_cannot_be_built(label, spec, options, True)), _quiet_downloads():
        network: nn.Module = torchvision.models.get_model(name, weights=weights, **(fitted | dict(options)))
    side = 224 if name.startswith(("vit_", "maxvit")) else 64  # a size that all networks accept, whatever the images'
    with foreign(f"{label}: "):
        inputs, classifier = input_and_classifier(network, torch.zeros(1, 3, side, side))
        new = list(classifier) if len(weights.meta["categories"]) != spec.classes else []
        for layer in new:
            fit_classifier(network, layer, spec.classes)
        if spec.channels != 3:
            (first,) = inputs
            fit_input(network, first, spec.channels)
            new.append(first)
    mark_published(network, str(weights), new + _STEM * (stem == "cifar"))
    return network


def replace_stem(label: str, network: nn.Module, spec: ImageSpec) -> None:
    """Replace an ImageNet ResNet's 7x7 convolution and pooling by a 3x3 convolution, stride 1.

    The usual change for images of 32 x 32, which otherwise shrink to a fourth before the first block.

    Raises:
        InputError: the network does not begin like an ImageNet ResNet.
    """
    convolution = getattr(network, "conv1", None)
    if not isinstance(convolution, nn.Conv2d) or not isinstance(getattr(network, "maxpool", None), nn.Module):
        raise InputError(f"{label}: stem 'cifar' needs a network that begins like ImageNet's ResNets")
    stem = nn.Conv2d(spec.channels, convolution.out_channels, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = stem
    network.maxpool = nn.Identity()


def _finished(label: str, network: nn.Module, spec: ImageSpec, stem: Stem) -> nn.Module:
    if stem == "cifar":
        replace_stem(label, network, spec)
    images = torch.zeros(1, spec.channels, spec.height, spec.width)
    with foreign(f"{label} cannot take images of {_shape(spec)}: "), torch.no_grad():
        logits = network.eval()(images)
    if not isinstance(logits, Tensor) or logits.shape != (1, spec.classes):
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"{label} does not return {spec.classes} numbers for an image, but {found}")
    return network.train()


def _replace_input(network: nn.Module, channels: int) -> None:
    name, old = next((name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        kernel_size=old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    # keeps the variance of the outputs as in the network's own initialization
    nn.init.normal_(new.weight, std=float(old.weight.detach().std()) * math.sqrt(old.in_channels / channels))
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)


@contextmanager
def _quiet_downloads() -> Iterator[None]:
    """Silence the messages of a loader about each attempt: the final outcome is reported."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _check_name(label: str, name: str, valid: Iterable[str]) -> None:
    known = set(valid)
    if name not in known:
        raise InputError(f"unknown {label}{suggestion(name, known)}")


def _check_options(label: str, options: Mapping[str, Any]) -> None:
    for option in sorted(RESERVED.intersection(options)):
        raise InputError(
            f"{label}: {option}: cannot be set; networks are adapted to the data set; pretrained = true loads weights"
        )


def _cannot_be_built(label: str, spec: ImageSpec, options: Mapping[str, Any], pretrained: bool = False) -> str:
    if pretrained:
        return f"{label}: its published weights are not available, or do not fit: "
    given = f"options {shorten(dict(options))}" if options else "no options"
    return f"{label} cannot be built for images of {_shape(spec)} with {given}: "


def _side_of_square(label: str, spec: ImageSpec) -> int:
    if spec.height != spec.width:
        raise InputError(f"{label} takes square images only, not {_shape(spec)}")
    return spec.height


def _shape(spec: ImageSpec) -> str:
    return f"{spec.channels} x {spec.height} x {spec.width}"
