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

Width = Annotated[int, Field(ge=1, le=1024)]
Depth = Annotated[int, Field(ge=1, le=100)]

# thousands of parameters with shortcut A, 3 channels and 10 classes
CIFAR_RESNETS = {8: 78, 14: 175, 20: 270, 32: 464, 44: 659, 56: 853, 110: 1728, 152: 2408}


def _cifar_resnet(depth: int, thousands: int) -> Callable[..., Module]:
    def resnet(
        spec: ImageSpec,
        *,
        shortcut: Literal["A", "B"] = "A",
        width: Width = 16,
    ) -> Module:
        from sgabench.models.cifar_resnet import CifarResNet

        return CifarResNet(depth, spec.channels, spec.classes, shortcut, width)

    resnet.__doc__ = f"CIFAR ResNet with {depth} layers, {thousands / 1000:.2f} M parameters (He et al. 2015)."
    return resnet


for _depth, _thousands in CIFAR_RESNETS.items():
    models.register(f"resnet{_depth}")(_cifar_resnet(_depth, _thousands))


def _vgg(depth: int, millions: str) -> Callable[..., Module]:
    def vgg(spec: ImageSpec, *, width: Width = 64) -> Module:
        from sgabench.models.vgg import Vgg

        return Vgg(depth, spec.channels, spec.classes, width)

    vgg.__doc__ = (
        f"VGG-{depth} with BatchNorm and one linear layer, {millions} M parameters (Simonyan & Zisserman 2014)."
    )
    return vgg


def _wide_resnet(depth: int, by: int, millions: str) -> Callable[..., Module]:
    def wide_resnet(spec: ImageSpec, *, factor: Annotated[int, Field(ge=1, le=64)] = by) -> Module:
        from sgabench.models.residual import WideResNet

        return WideResNet(depth, spec.channels, spec.classes, factor)

    wide_resnet.__doc__ = f"Wide ResNet, {depth} layers {by} times as wide, {millions} M parameters (Zagoruyko 2016)."
    return wide_resnet


for _name, _network in {
    "vgg11": _vgg(11, "9.2"),
    "vgg16": _vgg(16, "14.7"),
    "wrn-16-4": _wide_resnet(16, 4, "2.7"),
    "wrn-28-10": _wide_resnet(28, 10, "36.5"),
}.items():
    models.register(_name)(_network)


@models.register("resnet18")
def resnet18(spec: ImageSpec, *, width: Width = 64) -> Module:
    """ImageNet's ResNet-18 with a 3x3 stem for small images, 11.2 M parameters (He et al. 2015)."""
    from sgabench.models.residual import ResNet18

    return ResNet18(spec.channels, spec.classes, width)


@models.register("densenet40")
def densenet40(spec: ImageSpec, *, growth: Annotated[int, Field(ge=1, le=256)] = 12) -> Module:
    """DenseNet for CIFAR with 40 layers and growth 12, 1.0 M parameters (Huang et al. 2016)."""
    from sgabench.models.densenet import DenseNet

    return DenseNet(40, spec.channels, spec.classes, growth)


@models.register("mobilenetv2")
def mobilenetv2(spec: ImageSpec, *, width: Annotated[float, Field(ge=0.1, le=4)] = 1.0) -> Module:
    """MobileNetV2 with strides for small images, 2.2 M parameters and the classifier (Sandler et al. 2018)."""
    from sgabench.models.mobilenet import small_mobilenet

    return small_mobilenet(spec, width)


@models.register("vit")
def vit(
    spec: ImageSpec,
    *,
    patch: Annotated[int, Field(ge=1, le=64)] = 4,
    depth: Depth = 7,
    width: Width = 256,
    heads: Annotated[int, Field(ge=1, le=64)] = 4,
) -> Module:
    """Vision transformer for small images, ViT-Lite-7/4, 3.7 M parameters (Hassani et al. 2021)."""
    from sgabench.models.vision_transformer import small_vit

    return small_vit(spec, patch, depth, width, heads)


@models.register("lenet-300-100")
def lenet_300_100(spec: ImageSpec) -> Module:
    """Fully connected, hidden layers of 300 and 100, 0.27 M parameters for 28 x 28 (LeCun et al. 1998)."""
    from sgabench.models.fully_connected import fully_connected

    return fully_connected(spec, (300, 100))


@models.register("mlp")
def mlp(spec: ImageSpec, *, depth: Depth = 5, width: Annotated[int, Field(ge=1, le=65536)] = 512) -> Module:
    """Fully connected, with as many hidden layers of the same width as you like, and ReLU."""
    from sgabench.models.fully_connected import fully_connected

    return fully_connected(spec, (width,) * depth)


def _recurrent(cell: Literal["lstm", "gru"], paper: str) -> Callable[..., Module]:
    def recurrent(spec: ImageSpec, *, hidden: Annotated[int, Field(ge=1, le=65536)] = 128, layers: Depth = 1) -> Module:
        from sgabench.models.recurrent import RowReader

        return RowReader(cell, spec.channels * spec.width, spec.classes, hidden, layers)

    recurrent.__doc__ = f"{cell.upper()} that reads an image row by row ({paper})."
    return recurrent


models.register("lstm")(_recurrent("lstm", "Hochreiter & Schmidhuber 1997"))
models.register("gru")(_recurrent("gru", "Cho et al. 2014"))


def _timm_names() -> list[str]:
    import timm

    return list(timm.list_models())


def _torchvision_names() -> list[str]:
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


# Which networks were once measured otherwise (suite/revisions.py): found by running networks of every family.
_TIMM_KINDS = {
    "packed": ("sequencer2d*",),
    "computed": (
        *("*nfnet*", "nf_*", "resnetv2_*_bit *", "vit_*_r26_s32_*", "vit_*_r50_s*", "vit_*_r_s16_*"),  # standardized
        *("*_rmlp_*", "mvitv2_*", "samvit_*", "swinv2_*", "vit_relpos_*", "vit_srelpos_*"),  # positions
        *(
            "*siglip_[0-9]*",
            "*vit_*siglip *",
            "*_map*",
            "* global_pool=map*",
            "vit_pe_core_*",
            "test_vit3 *",
        ),  # a query
    ),
    "heads": (
        *("*_distilled*", "* distill*=True*", "levit_*128*", "levit_*192 *", "levit_*256 *", "levit_*384*"),
        *("crossvit_*", "efficientformer*", "efficientvim_*", "repvit_*", "swiftformer_*", "volo_*"),
    ),
}
_TORCHVISION_KINDS = {"packed": ("vit_*",), "computed": ("swin_v2_*",)}


@models.register_source("timm", names=_timm_names, kinds=_TIMM_KINDS, added=("pretrained",))
def from_timm(
    name: str,
    spec: ImageSpec,
    *,
    stem: Literal["default", "cifar"] = "default",
    pretrained: bool = False,
    **options: Any,
) -> Module:
    """Any architecture of timm, untrained or with published weights; options go to its constructor."""
    from sgabench.models.adapters import build_timm

    return build_timm(name, spec, stem, pretrained, options)


@models.register_source("torchvision", names=_torchvision_names, kinds=_TORCHVISION_KINDS, added=("pretrained",))
def from_torchvision(
    name: str,
    spec: ImageSpec,
    *,
    stem: Literal["default", "cifar"] = "default",
    pretrained: bool = False,
    **options: Any,
) -> Module:
    """Any classification network of torchvision, untrained or with published weights; options go to its constructor."""
    from sgabench.models.adapters import build_torchvision

    return build_torchvision(name, spec, stem, pretrained, options)


def _batch_norm(device: str) -> str:
    from sgabench.models.batch_norm import implementation

    return implementation(device)


def _convolutions(device: str) -> str:
    from sgabench.system.convolution import implementation

    return implementation(device)


register_fact("batch_norm", _batch_norm)
register_fact("convolutions", _convolutions)
