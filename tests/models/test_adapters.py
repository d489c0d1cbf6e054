"""Networks of timm and torchvision are fitted to the data set, or refused in one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sgabench.errors import InputError
from sgabench.plugins import ImageSpec, models

CIFAR = ImageSpec(channels=3, height=32, width=32, classes=10)
FASHION = ImageSpec(channels=1, height=28, width=28, classes=10)
DIGITS = ImageSpec(channels=1, height=8, width=8, classes=10)


def build(name: str, spec: ImageSpec, **options: object) -> nn.Module:
    torch.manual_seed(0)
    network = models[name].build(spec, **options)
    assert isinstance(network, nn.Module)
    return network


@pytest.mark.parametrize("spec", [CIFAR, FASHION], ids=["3x32x32", "1x28x28"])
@pytest.mark.parametrize(
    "name",
    [
        "timm:resnet18",
        "timm:mobilenetv3_small_050",
        "torchvision:resnet18",
        "torchvision:mobilenet_v3_small",
        "torchvision:squeezenet1_1",
        "torchvision:googlenet",
    ],
)
def test_fits_channels_and_classes(name: str, spec: ImageSpec) -> None:
    network = build(name, spec)
    logits = network(torch.randn(2, spec.channels, spec.height, spec.width))
    assert logits.shape == (2, spec.classes)
    assert network.training


def test_vision_transformers_get_the_image_size() -> None:
    network = build("timm:vit_tiny_patch16_224", CIFAR, patch_size=8, depth=1)
    assert network.pos_embed.shape[1] == 1 + 4 * 4
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    network = build("torchvision:vit_b_32", CIFAR)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_cifar_stem_keeps_the_resolution(name: str) -> None:
    sizes = []
    network = build(name, DIGITS, stem="cifar")
    network.layer1.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[2:]))
    network(torch.zeros(2, 1, 8, 8))
    assert sizes == [(8, 8)]


@pytest.mark.parametrize("name", ["timm:resnet18d", "timm:vit_tiny_patch16_224", "torchvision:squeezenet1_1"])
def test_cifar_stem_is_refused_elsewhere(name: str) -> None:
    with pytest.raises(InputError, match="stem 'cifar' needs"):
        build(name, CIFAR, stem="cifar")


def test_replaced_input_keeps_the_scale_of_activations() -> None:
    grey = build("torchvision:resnet18", FASHION).conv1
    colour = build("torchvision:resnet18", CIFAR).conv1
    assert grey.in_channels == 1
    shapes = [(conv.out_channels, conv.kernel_size, conv.stride, conv.padding) for conv in (grey, colour)]
    assert shapes[0] == shapes[1]
    images = torch.randn(64, 3, 16, 16)
    with torch.no_grad():
        assert float(grey(images[:, :1]).std()) == pytest.approx(float(colour(images).std()), rel=0.1)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_is_as_initialized(name: str) -> None:
    network = build(name, FASHION)
    again = build(name, FASHION)
    for (key, value), other in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, other), key
        assert not key.endswith("num_batches_tracked") or value == 0
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_options_reach_the_constructor() -> None:
    assert build("timm:resnet18", CIFAR, drop_rate=0.25).drop_rate == 0.25
    assert build("torchvision:mobilenet_v3_small", CIFAR, dropout=0.5).classifier[2].p == 0.5


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("timm:resnte18", "'resnet18'"),
        ("torchvision:resnet81", "'resnet18'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "valid: alexnet"),
        ("timm:hf-hub:someone/something", "valid: "),
    ],
)
def test_unknown_names_are_answered_with_near_ones(name: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"unknown model '{name}'.*{meant}"):
        build(name, CIFAR)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_wrong_option_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"model '{name}' cannot be built .*depht") as caught:
        build(name, CIFAR, depht=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("timm:resnet18", "checkpoint_path"),
        ("timm:resnet18", "in_chans"),
        ("torchvision:resnet18", "weights"),
        ("torchvision:googlenet", "aux_logits"),
    ],
)
def test_weights_and_fit_cannot_be_set(name: str, option: str) -> None:
    with pytest.raises(InputError, match=f"{option}: cannot be set"):
        build(name, CIFAR, **{option: True})


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("torchvision:alexnet", CIFAR),
        ("torchvision:inception_v3", CIFAR),
        ("timm:vit_tiny_patch16_224", DIGITS),
        ("torchvision:maxvit_t", CIFAR),
    ],
)
def test_images_that_are_too_small_are_refused(name: str, spec: ImageSpec) -> None:
    size = f"{spec.channels} x {spec.height} x {spec.width}"
    with pytest.raises(InputError, match=f"model '{name}' cannot .* images of {size}") as caught:
        build(name, spec)
    assert "\n" not in str(caught.value)


def test_vision_transformer_of_torchvision_wants_squares() -> None:
    with pytest.raises(InputError, match="square images only, not 3 x 32 x 40"):
        build("torchvision:vit_b_32", ImageSpec(3, 32, 40, 10))


def test_features_instead_of_logits_are_refused() -> None:
    with pytest.raises(InputError, match="does not return 10 numbers"):
        build("timm:vit_tiny_patch16_224", CIFAR, patch_size=8, depth=1, global_pool="")
