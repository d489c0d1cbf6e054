"""The networks that a suite can name.

A model is a function of the images' `sgabench.plugins.specs.ImageSpec`. It returns a module that takes float
images (N, C, H, W) to logits (N, classes), initialized from torch's global generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from sgabench.plugins import ImageSpec, models
from sgabench.system.environment import register_fact

if TYPE_CHECKING:
    from torch.nn import Module
else:
    Module = Any  # the registry evaluates annotations, and torch must not be imported for that

# thousands of parameters with shortcut A, 3 channels and 10 classes
CIFAR_RESNETS = {8: 78, 14: 175, 20: 270, 32: 464, 44: 659, 56: 853, 110: 1728, 152: 2408}


def _cifar_resnet(depth: int, thousands: int) -> Callable[..., Module]:
    def resnet(
        spec: ImageSpec,
        *,
        shortcut: Literal["A", "B"] = "A",
        width: Annotated[int, Field(ge=1, le=1024)] = 16,
    ) -> Module:
        from sgabench.models.cifar_resnet import CifarResNet

        return CifarResNet(depth, spec.channels, spec.classes, shortcut, width)

    resnet.__doc__ = f"CIFAR ResNet with {depth} layers, {thousands / 1000:.2f} M parameters (He et al. 2015)."
    return resnet


for _depth, _thousands in CIFAR_RESNETS.items():
    models.register(f"resnet{_depth}")(_cifar_resnet(_depth, _thousands))


def _timm_names() -> list[str]:
    import timm

    return list(timm.list_models())


def _torchvision_names() -> list[str]:
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


@models.register_source("timm", names=_timm_names)
def from_timm(name: str, spec: ImageSpec, *, stem: Literal["default", "cifar"] = "default", **options: Any) -> Module:
    """Any architecture of timm, untrained; options go to its constructor."""
    from sgabench.models.adapters import build_timm

    return build_timm(name, spec, stem, options)


@models.register_source("torchvision", names=_torchvision_names)
def from_torchvision(
    name: str, spec: ImageSpec, *, stem: Literal["default", "cifar"] = "default", **options: Any
) -> Module:
    """Any classification network of torchvision, untrained; options go to its constructor."""
    from sgabench.models.adapters import build_torchvision

    return build_torchvision(name, spec, stem, options)


def _batch_norm(device: str) -> str:
    from sgabench.models.batch_norm import implementation

    return implementation(device)


register_fact("batch_norm", _batch_norm)
