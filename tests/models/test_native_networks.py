"""The native networks have the sizes that their papers state, and take small images of any form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from sgabench.errors import InputError
from sgabench.models.densenet import DenseNet
from sgabench.models.operations import count_operations
from sgabench.models.residual import WideResNet
from sgabench.plugins import ImageSpec, PruningContext, models, pruners

CIFAR = ImageSpec(channels=3, height=32, width=32, classes=10)
IMAGENET = ImageSpec(channels=3, height=32, width=32, classes=1000)
MNIST = ImageSpec(channels=1, height=28, width=28, classes=10)
SMALL: dict[str, dict[str, Any]] = {
    "vgg11": {"width": 4},
    "vgg16": {"width": 4},
    "resnet18": {"width": 4},
    "wrn-16-4": {"factor": 1},
    "wrn-28-10": {"factor": 1},
    "densenet40": {"growth": 2},
    "mobilenetv2": {"width": 0.1},
    "vit": {"depth": 1, "width": 16},
    "lenet-300-100": {},
    "mlp": {"width": 16, "depth": 4},
    "lstm": {"hidden": 8},
    "gru": {"hidden": 8, "layers": 2},
}


def size(name: str, spec: ImageSpec, **options: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in models[name].build(spec, **options).parameters())


@pytest.mark.parametrize(
    ("name", "spec", "published"),
    [
        # their tables, in millions: VGG's convolutions alone, without the three linear layers
        ("vgg11", CIFAR, 9.2),
        ("vgg16", CIFAR, 14.7),
        ("wrn-16-4", CIFAR, 2.7),
        ("wrn-28-10", CIFAR, 36.5),
        ("densenet40", CIFAR, 1.0),
        ("mobilenetv2", IMAGENET, 3.5),
        ("vit", CIFAR, 3.7),
        ("lenet-300-100", MNIST, 0.3),
    ],
)
def test_sizes_are_the_published_ones_and_those_of_the_description(
    name: str, spec: ImageSpec, published: float
) -> None:
    number = size(name, spec)
    assert round(number / 1e6, 1) == published
    if spec is CIFAR:
        assert f"{number / 1e6:.1f} M parameters" in models[name].description


def test_sizes_are_exact() -> None:
    assert size("vit", CIFAR) == pytest.approx(3.717e6, rel=1e-4)  # ViT-Lite-7/4, table 2
    assert size("lenet-300-100", MNIST) == 784 * 300 + 300 * 100 + 100 * 10 + 300 + 100 + 10
    assert size("mlp", MNIST, width=10, depth=3) == 784 * 10 + 10 * 10 * 3 + 4 * 10
    convolutions = 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 3 * 512 * 512)
    assert size("vgg11", CIFAR) == convolutions + 2 * (64 + 128 + 2 * 256 + 4 * 512) + 512 * 10 + 10
    assert size("lstm", MNIST, hidden=5) == 4 * 5 * (28 + 5) + 2 * 4 * 5 + 5 * 10 + 10
    assert size("gru", MNIST, hidden=5, layers=2) == 3 * 5 * (28 + 5 + 5 + 5) + 4 * 3 * 5 + 5 * 10 + 10


def test_sizes_are_those_of_torchvision_but_for_the_stem() -> None:
    with torch.device("meta"):
        resnet, mobilenet = torchvision.models.resnet18(), torchvision.models.mobilenet_v2()
    assert size("mobilenetv2", IMAGENET) == sum(p.numel() for p in mobilenet.parameters())
    assert size("resnet18", IMAGENET) == sum(p.numel() for p in resnet.parameters()) - 64 * 3 * (7 * 7 - 3 * 3)


def test_the_vit_multiplies_as_often_as_its_paper_says() -> None:
    macs = count_operations(models["vit"].build(CIFAR), torch.zeros(1, 3, 32, 32)).total
    of_activations = 7 * 2 * 65 * 65 * 256  # queries with keys, and with values: the paper's counter sees weights only
    assert macs - of_activations == pytest.approx(0.239e9, rel=3e-3)


@pytest.mark.parametrize("kind", [DenseNet, WideResNet])
@pytest.mark.parametrize("depth", [2, 18])
def test_depths_that_do_not_come_out_even_are_refused(kind: type[nn.Module], depth: int) -> None:
    with pytest.raises(ValueError, match="n \\+ 4"):
        kind(depth, 3, 10, 2)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (1, 28, 28), (2, 12, 4)])
def test_every_weight_learns_from_images_of_any_size(name: str, shape: tuple[int, int, int]) -> None:
    network = models[name].build(ImageSpec(*shape, classes=7), **SMALL[name])
    logits = network(torch.randn(3, *shape).contiguous(memory_format=torch.channels_last))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", ["lenet-300-100", "mlp"])  # the convolutional ones: in their suite
def test_hidden_units_can_be_removed(name: str) -> None:
    spec = ImageSpec(1, 8, 8, 5)
    network = models[name].build(spec, **SMALL[name]).eval()
    before = sum(p.numel() for p in network.parameters())
    context = PruningContext(spec, 0, lambda: iter(()), frozenset())
    pruned = pruners["structured"].build(network, 0.4, context)
    assert pruned(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert 0.5 < sum(p.numel() for p in pruned.parameters()) / before < 0.7


@pytest.mark.parametrize(
    ("options", "message"), [({"patch": 5}, "patch: 5 does not divide"), ({"heads": 3}, "heads: 3 do not divide")]
)
def test_a_vit_that_cannot_be_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        models["vit"].build(CIFAR, **options)
