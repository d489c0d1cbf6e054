"""Networks of timm and torchvision, fitted to a data set: its channels, its size, its classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgabench.errors import InputError, foreign, shorten, suggestion
from sgabench.plugins import ImageSpec

Stem = Literal["default", "cifar"]

# what the data set decides, what would load weights, and what makes a network return more than logits
RESERVED = frozenset(
    {
        *("num_classes", "in_chans", "img_size", "image_size", "input_size"),
        *("weights", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
        *("aux_logits", "features_only"),
    }
)


def build_timm(name: str, spec: ImageSpec, stem: Stem, options: Mapping[str, Any]) -> nn.Module:
    """Build an untrained network of timm.

    Args:
        name: as `timm.list_models()` has it.
        spec: what it must accept and return.
        stem: see `replace_stem`.
        options: go to the constructor.

    Raises:
        InputError: unknown name, wrong option, or a network that cannot take such images.
    """
    import timm

    label = f"model 'timm:{name}'"
    _check_name(label, name, timm.list_models())
    _check_options(label, options)
    fitted: dict[str, Any] = {"num_classes": spec.classes, "in_chans": spec.channels}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        fitted["img_size"] = (spec.height, spec.width)
    with foreign(_cannot_be_built(label, spec, options)):
        network = timm.create_model(name, pretrained=False, **fitted, **options)
    return _finished(label, network, spec, stem)


def build_torchvision(name: str, spec: ImageSpec, stem: Stem, options: Mapping[str, Any]) -> nn.Module:
    """Build an untrained classification network of torchvision.

    Args:
        name: as `torchvision.models.list_models(module=torchvision.models)` has it.
        spec: what it must accept and return; for other than 3 channels the first convolution is
            replaced.
        stem: see `replace_stem`.
        options: go to the constructor.

    Raises:
        InputError: unknown name, wrong option, or a network that cannot take such images.
    """
    import torchvision

    label = f"model 'torchvision:{name}'"
    _check_name(label, name, torchvision.models.list_models(module=torchvision.models))
    _check_options(label, options)
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


def replace_stem(label: str, network: nn.Module, spec: ImageSpec) -> None:
    """Replace an ImageNet ResNet's 7x7 convolution and pooling by a 3x3 convolution, stride 1.

    The usual change for images of 32 x 32, which otherwise shrink to a fourth before the first block.

    Raises:
        InputError: the network does not begin like an ImageNet ResNet.
    """
    convolution = getattr(network, "conv1", None)
    if not isinstance(convolution, nn.Conv2d) or not isinstance(getattr(network, "maxpool", None), nn.Module):
        raise InputError(f"{label}: stem 'cifar' needs a network that begins as ImageNet's ResNets do")
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
    # the variance of the outputs stays what the network's own initialization makes it
    nn.init.normal_(new.weight, std=float(old.weight.detach().std()) * math.sqrt(old.in_channels / channels))
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)


def _check_name(label: str, name: str, valid: Iterable[str]) -> None:
    known = set(valid)
    if name not in known:
        raise InputError(f"unknown {label}{suggestion(name, known)}")


def _check_options(label: str, options: Mapping[str, Any]) -> None:
    for option in sorted(RESERVED.intersection(options)):
        raise InputError(f"{label}: {option}: cannot be set; networks are untrained and fitted to the data set")


def _cannot_be_built(label: str, spec: ImageSpec, options: Mapping[str, Any]) -> str:
    given = f"options {shorten(dict(options))}" if options else "no options"
    return f"{label} cannot be built for images of {_shape(spec)} with {given}: "


def _side_of_square(label: str, spec: ImageSpec) -> int:
    if spec.height != spec.width:
        raise InputError(f"{label} takes square images only, not {_shape(spec)}")
    return spec.height


def _shape(spec: ImageSpec) -> str:
    return f"{spec.channels} x {spec.height} x {spec.width}"
