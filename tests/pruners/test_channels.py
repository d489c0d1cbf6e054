"""Channels are followed through whatever a network does, and what is removed is what was meant."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
import torch_pruning
import torchvision
from torch import Tensor, nn

from sgabench.errors import InputError
from sgabench.models.cifar_resnet import CifarResNet
from sgabench.models.operations import count_macs
from sgabench.plugins import PruningContext, pruners
from sgabench.pruners.channels import importance as importances
from sgabench.pruners.channels.importance import groups_of, magnitudes
from sgabench.pruners.channels.proof import proven
from sgabench.pruners.channels.removing import remove
from sgabench.pruners.channels.structure import find_structure
from sgabench.pruners.structured import _kept

MakeContext = Callable[..., PruningContext]
EXAMPLE = torch.zeros(1, 3, 8, 8)


class _Between(nn.Module):
    """Two convolutions, something between them and the classifier."""

    def __init__(self, between: Callable[[Tensor], Tensor], inputs: int, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, width, 3, padding=1, stride=4)
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(inputs, 5)
        self.between = between

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm(self.second(F.relu(self.first(images)))))
        logits: Tensor = self.classifier(self.between(x))
        return logits


def shuffle(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w).mean((2, 3))


def channels_last_flat(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


@pytest.mark.parametrize(
    ("between", "inputs", "read_by"),
    [
        (shuffle, 16, lambda channel: [2 * channel if channel < 8 else 2 * (channel - 8) + 1]),
        (channels_last_flat, 64, lambda channel: [place * 16 + channel for place in range(4)]),
        (lambda x: x.flatten(1), 64, lambda channel: [channel * 4 + place for place in range(4)]),
    ],
    ids=["shuffle", "permuted and flat", "flat"],
)
def test_dead_channels_go_whatever_is_between_them_and_their_readers(
    between: Any, inputs: int, read_by: Callable[[int], list[int]], context: MakeContext, images: Tensor
) -> None:
    network: Any = seeded(lambda: _Between(between, inputs))
    dead = [0, 1, 8, 9]
    with torch.no_grad():
        for parameter in (network.second.weight, network.second.bias, network.norm.weight, network.norm.bias):
            parameter[dead] = 0
        network.classifier.weight[:, [place for channel in dead for place in read_by(channel)]] = 0
    expected = network(images)
    ratio = len(dead) / 16 if between is not shuffle else 2 / 8
    pruned: Any = pruners["structured"].build(network, ratio, context(excluded={"first"}), of="channels")
    assert pruned.second.out_channels == 12
    assert torch.allclose(pruned(images), expected, atol=1e-6)


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.third.weight = self.second.weight
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.third(F.relu(self.second(F.relu(self.first(images)))))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """Stores the sizes of its heads, which differ for keys and values, as LeViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.value_dim = 2, 4, 8
        self.all_values_dim = 2 * 8
        self.qkv, self.project = nn.Linear(16, 2 * (4 + 4 + 8)), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        parts = self.qkv(tokens).view(len(x), -1, self.num_heads, 2 * self.key_dim + self.value_dim).transpose(1, 2)
        q, k, v = parts.split([self.key_dim, self.key_dim, self.value_dim], dim=3)
        mixed = (0.5 * q @ k.transpose(2, 3)).softmax(-1) @ v
        out: Tensor = self.project(mixed.transpose(1, 2).reshape(len(x), -1, self.all_values_dim))
        return out.transpose(1, 2).unflatten(2, x.shape[2:])


class _Partial(nn.Module):
    """Adds to as many channels as it stores, as ReXNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.conv = 16, conv(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.cat([y[:, : self.in_channels] + x, y[:, self.in_channels :]], dim=1)


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def sequence(*layers: nn.Module, width: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *layers, _Mean(), nn.Linear(width, 5))


def conv(inputs: int, outputs: int, **options: Any) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tied": _Tied,
    "GLU": sequence(nn.GLU(dim=1), conv(8, 8), width=8),
    "PixelShuffle": sequence(nn.PixelShuffle(2), conv(4, 8), width=8),
    "PixelUnshuffle": sequence(nn.PixelUnshuffle(2), conv(64, 8), width=8),
    "ChannelShuffle": sequence(nn.ChannelShuffle(4), conv(16, 8), width=8),
    "depthwise multiplier": sequence(conv(16, 32, groups=16), conv(32, 8), width=8),
    "grouped": sequence(conv(16, 24, groups=4), nn.GroupNorm(4, 24), conv(24, 8), width=8),
    "grouped transposed": sequence(nn.ConvTranspose2d(16, 24, 2, groups=4), conv(24, 8), width=8),
    "depthwise transposed": sequence(nn.ConvTranspose2d(16, 32, 2, groups=16), conv(32, 8), width=8),
    "LayerNorm over channels and pixels": sequence(nn.LayerNorm((16, 8, 8)), conv(16, 8), width=8),
    "InstanceNorm": sequence(nn.InstanceNorm2d(16, affine=True), nn.PReLU(16), conv(16, 8), width=8),
    "GroupNorm of single channels": sequence(nn.GroupNorm(16, 16), conv(16, 8), width=8),
    "Unfold": sequence(nn.Unfold(2, stride=2), nn.Unflatten(2, (4, 4)), conv(64, 8), width=8),
    "stored sizes of heads": sequence(_Attention(), conv(16, 8), width=8),
    "stored number of channels": sequence(_Partial(), conv(24, 8), width=8),
    "ShuffleNet": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=5),
    "ResNeSt": lambda: timm.create_model("resnest14d", num_classes=5),
    "ViT of torchvision": lambda: torchvision.models.VisionTransformer(8, 4, 1, 2, 16, 32, num_classes=5),
    "ResNet with shortcut A": lambda: CifarResNet(8, 3, 5, "A", 8),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_arithmetic_over_channels_is_what_is_left(name: str, images: Tensor) -> None:
    network = seeded(NETWORKS[name])
    found = find_structure(network, images[:1], ())
    structure = proven(network, found, images)
    assert structure.units.keys() == found.units.keys() != set()
    kept = _kept(structure, [unit for units in structure.units.values() for unit in units[: len(units) // 2]])  # type: ignore[arg-type]
    before = copy.deepcopy(network.state_dict())
    pruned = remove(network, structure, kept)
    assert sum(p.numel() for p in pruned.parameters()) == structure.params(kept)
    assert structure.params(kept) < sum(p.numel() for p in network.parameters())
    assert count_macs(pruned, EXAMPLE)[0] == structure.macs(kept)
    assert pruned(images).shape == (2, 5)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_what_was_pruned_can_be_pruned_again(shortcut: Any, context: MakeContext, images: Tensor) -> None:
    network: nn.Module = seeded(lambda: CifarResNet(8, 3, 5, shortcut, 8))
    sizes = []
    for _ in range(3):  # from the second time on, the shortcuts have gaps
        network = pruners["structured"].build(network, 0.3, context(excluded={"fc"}), of="channels")
        sizes.append(sum(p.numel() for p in network.parameters()))
        assert torch.equal(copy.deepcopy(network)(images), network(images))
    assert sizes == sorted(sizes, reverse=True)
    network.train()(images).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


class _Reading(nn.Module):
    """Reads the first half of the channels by a number that it stores."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = conv(3, 8), conv(8, 8), conv(8, 8)
        self.head = nn.Linear(8, 5)
        self.order = torch.arange(7, -1, -1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(images))))[:, self.order]
        return self.head(self.third(x).mean((2, 3)))  # type: ignore[no-any-return]


def test_what_cannot_be_removed_stays_whole_and_is_named(context: MakeContext, images: Tensor) -> None:
    given = context()
    pruned: Any = pruners["structured"].build(seeded(_Reading), 0.3, given)
    assert given.notes["kept_whole"] == ["second"]
    assert pruned.second.out_channels == 8
    assert pruned.first.out_channels + pruned.third.out_channels < 16
    assert pruned(images).shape == (2, 5)


class _Reshaping(nn.Module):
    """Takes the number of one layer's channels for another's, which are as many as long as none goes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.third, self.head = nn.Conv2d(8, 16, 3), nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.first(images))
        x = F.relu(self.second(x)).reshape(x.shape)
        return self.head(self.third(x).mean((2, 3)))  # type: ignore[no-any-return]


def test_layers_that_must_have_equally_many_channels_are_not_pruned_apart(context: MakeContext, images: Tensor) -> None:
    given = context()
    pruned: Any = pruners["structured"].build(seeded(_Reshaping), 0.4, given)
    assert given.notes["kept_whole"] == ["first", "second"]
    assert pruned.first.out_channels == pruned.second.out_channels == 8
    assert pruned.third.out_channels < 16


def test_weights_that_are_computed_from_others_stay_whole(context: MakeContext) -> None:
    class Standardized(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)).view(-1).view(self.weight.shape)
            return F.conv2d(x, weight, self.bias, self.stride, self.padding)

    network = sequence(Standardized(16, 8, 3, padding=1), width=8)
    with pytest.raises(InputError, match=r"cannot remove any channel of Sequential .*choose another pruner"):
        pruners["structured"].build(seeded(network), 0.5, context())


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_layout_in_memory_does_not_matter(memory: torch.memory_format) -> None:
    layers = [nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(16, 5)).to(memory_format=memory)  # type: ignore[call-overload]
    network[5].weight.data = network[5].weight.data.T.contiguous().T  # in an order of its own
    before = {key: (value.clone(), value.stride()) for key, value in network.state_dict().items()}
    assert list(find_structure(network, torch.zeros(1, 3, 32, 32).to(memory_format=memory), {"0", "5"}).units) == ["2"]
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key][0])
        assert value.stride() == before[key][1], key


def test_groups_are_those_that_importances_of_torch_pruning_know(images: Tensor) -> None:
    network = seeded(lambda: CifarResNet(8, 3, 5, "B", 8))
    structure = find_structure(network, images[:1], {"fc"})
    graph = torch_pruning.DependencyGraph().build_dependency(network, images[:1], verbose=False)
    for importance in (
        torch_pruning.importance.GroupMagnitudeImportance(p=2),
        torch_pruning.importance.GroupMagnitudeImportance(p=1, group_reduction="first", normalizer="max"),
        torch_pruning.importance.BNScaleImportance(),
    ):
        for unit, group in groups_of(network, structure):
            layer = network.get_submodule(unit)
            whole = graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, [*range(layer.out_channels)])  # type: ignore[arg-type]
            torch.testing.assert_close(importance(group), importance(whole))


@pytest.mark.parametrize("block", [2**10, 2**22])
def test_magnitudes_are_torch_prunings_to_the_last_bit(
    block: int, convnet: nn.Sequential, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importances, "_BLOCK", block)
    transposed = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 8, 2), nn.Flatten(), nn.LayerNorm(648), nn.Linear(648, 5)
    )
    own = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    for network in (convnet, seeded(lambda: CifarResNet(8, 3, 5, "B", 8)), seeded(lambda: transposed)):
        groups = dict(groups_of(network, find_structure(network, images[:1], {"fc"})))
        assert groups
        for group in groups.values():
            assert torch.equal(magnitudes(group), own(group))


def test_transposed_convolutions_with_groups_lose_channels(context: MakeContext, images: Tensor) -> None:
    layers = [nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 16, 2, groups=2), nn.Flatten(), nn.Linear(16 * 81, 5)]
    pruned = pruners["structured"].build(seeded(lambda: nn.Sequential(*layers)), 0.5, context(excluded={"0", "3"}))
    assert pruned[1].out_channels < 16
    assert pruned(images).shape == (2, 5)
