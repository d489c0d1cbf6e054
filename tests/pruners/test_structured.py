"""Removal of channels: what is reached, what stays, and that what is left still fits together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sgabench.errors import InputError
from sgabench.models.cifar_resnet import CifarResNet
from sgabench.models.layers import input_and_classifier, prunable_layers
from sgabench.models.operations import count_macs
from sgabench.plugins import ImageSpec, PruningContext, pruners

MakeContext = Callable[..., PruningContext]
EXAMPLE = torch.zeros(1, 3, 8, 8)


def params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def macs(network: nn.Module) -> int:
    return count_macs(network, EXAMPLE)[0]


def resnet(shortcut: Literal["A", "B"] = "A", depth: int = 14, width: int = 16) -> CifarResNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CifarResNet(depth, 3, 5, shortcut, width).eval()


def vit(**options: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = timm.create_model(
            "vit_tiny_patch16_224", img_size=8, patch_size=4, depth=2, embed_dim=48, num_classes=5, **options
        )
    return network.eval()


def ends(network: nn.Module) -> frozenset[str]:
    inputs, classifier = input_and_classifier(network, EXAMPLE)
    return inputs | classifier


def prune(network: nn.Module, ratio: float, context: PruningContext, **options: Any) -> nn.Module:
    pruned = pruners["structured"].build(copy.deepcopy(network), ratio, context, **options)
    assert isinstance(pruned, nn.Module)
    return pruned


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize(("of", "cost"), [("params", params), ("macs", macs)])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_the_fraction_asked_for_is_reached_within_a_percent(
    shortcut: Literal["A", "B"], of: str, cost: Callable[[nn.Module], int], scope: str, context: MakeContext
) -> None:
    network = resnet(shortcut)
    for ratio in (0.3, 0.6):
        pruned = prune(network, ratio, context(excluded=ends(network)), of=of, scope=scope)
        assert 1 - cost(pruned) / cost(network) == pytest.approx(ratio, abs=0.01)


def test_a_channel_ratio_is_not_a_ratio_of_parameters(context: MakeContext) -> None:
    network = resnet()
    pruned = prune(network, 0.5, context(excluded={"fc"}), of="channels")
    assert 1 - params(pruned) / params(network) > 0.65
    channels = {name: layer.weight.shape[0] for name, layer in prunable_layers(pruned).items()}  # type: ignore[union-attr, index]
    # six blocks with inner channels of their own, and one stream for each stage
    inner = sum(channels[f"layer{stage}.{block}.conv1"] for stage in (1, 2, 3) for block in (0, 1))
    streams = channels["conv1"] + channels["layer2.0.conv2"] + channels["layer3.0.conv2"]
    assert inner + streams == (2 * 16 + 2 * 32 + 2 * 64 + 16 + 32 + 64) / 2


def test_layers_shrink_at_one_pace_in_layer_scope(context: MakeContext) -> None:
    pruned = prune(resnet(), 0.25, context(excluded={"fc"}), of="channels", scope="layer")
    widths = {layer.weight.shape[0] for name, layer in prunable_layers(pruned).items() if name != "fc"}  # type: ignore[union-attr, index]
    assert widths == {12, 24, 48}


def test_excluded_layers_keep_their_outputs_and_the_layers_added_to_them(context: MakeContext) -> None:
    pruned = prune(resnet(), 0.5, context(excluded={"conv1", "fc"}))
    assert isinstance(pruned, CifarResNet)
    assert pruned.conv1.weight.shape == (16, 3, 3, 3)
    assert pruned.fc.out_features == 5
    assert pruned.layer1[0].conv2.out_channels == 16
    assert pruned.layer1[0].conv1.out_channels < 16
    assert pruned.fc.in_features < 64
    everywhere = prune(resnet(), 0.5, context(excluded={"fc"}), scope="layer")
    assert isinstance(everywhere, CifarResNet)
    assert everywhere.conv1.out_channels < 16


def test_the_logits_stay_even_if_the_classifier_is_not_excluded(
    convnet: nn.Sequential, context: MakeContext, images: Tensor
) -> None:
    pruned = prune(convnet, 0.8, context())
    assert pruned(images).shape == (2, 5)
    assert pruned[0].in_channels == 3  # type: ignore[index]


@settings(max_examples=12)
@given(
    ratio=st.floats(0.01, 0.99),
    of=st.sampled_from(["params", "macs", "channels"]),
    scope=st.sampled_from(["global", "layer"]),
)
def test_every_layer_keeps_a_channel_whatever_is_asked(ratio: float, of: str, scope: str) -> None:
    network = resnet(depth=8, width=4)
    context = PruningContext(ImageSpec(3, 8, 8, 5), 0, lambda: iter(()), frozenset())
    pruned = prune(network, ratio, context, of=of, scope=scope)
    assert all(parameter.numel() for parameter in pruned.parameters())
    assert torch.isfinite(pruned(EXAMPLE)).all()
    assert params(pruned) <= params(network)


def test_what_cannot_be_reached_is_approached(context: MakeContext) -> None:
    network = resnet(depth=8, width=4)
    pruned = prune(network, 0.99, context(excluded=ends(network)))
    widths = [layer.weight.shape[0] for name, layer in prunable_layers(pruned).items() if name != "fc"]  # type: ignore[union-attr, index]
    assert sorted(widths) == [1, 1, 1, 1, 1, 4, 4]


def test_dead_channels_go_first_and_are_not_missed(context: MakeContext, images: Tensor) -> None:
    network = resnet()
    with torch.no_grad():
        for block in [*network.layer1, *network.layer2, *network.layer3]:
            dead = torch.arange(0, block.conv1.out_channels, 2)
            block.conv1.weight[dead] = 0
            block.bn1.weight[dead] = 0
            block.conv2.weight[:, dead] = 0
    half_of_the_inner = (16 + 32 + 64) / (2 * (16 + 32 + 64) + 32 + 64)
    pruned = prune(network, half_of_the_inner, context(excluded=ends(network)), of="channels")
    assert params(pruned) < params(network)
    assert torch.allclose(pruned(images), network(images), atol=1e-5)


def test_ties_do_not_take_more_than_asked(context: MakeContext) -> None:
    network = resnet()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    pruned = prune(network, 0.3, context(excluded=ends(network)))
    assert 1 - params(pruned) / params(network) == pytest.approx(0.3, abs=0.01)


def test_layers_of_zeros_have_an_importance(context: MakeContext) -> None:
    network = resnet()
    with torch.no_grad():
        network.layer3[0].conv1.weight.zero_()
        network.layer3[0].bn1.weight.zero_()
        network.layer3[0].conv2.weight.zero_()
    pruned = prune(network, 0.1, context(excluded=ends(network)))
    assert isinstance(pruned, CifarResNet)
    assert pruned.layer3[0].conv1.out_channels < 64
    assert pruned.layer3[1].conv1.out_channels == 64


@pytest.mark.parametrize("of", ["params", "macs", "channels"])
def test_a_sweep_prunes_as_each_ratio_alone(of: str, context: MakeContext) -> None:
    network = resnet(depth=8, width=4)
    made: dict[str, Any] = {}

    def once(name: str, make: Callable[[], Any]) -> Any:
        if name not in made:
            made[name] = make()
        return made[name]

    alone = context(excluded=ends(network))
    for ratio in (0.6, 0.2, 0.4, 0.6):
        swept = prune(network, ratio, replace(alone, once=once), of=of).state_dict()
        for name, value in prune(network, ratio, alone, of=of).state_dict().items():
            assert torch.equal(swept[name], value)


def test_ratio_zero_returns_the_network_untouched(convnet: nn.Sequential, context: MakeContext) -> None:
    assert pruners["structured"].build(convnet, 0.0, context()) is convnet
    assert params(convnet) == params(copy.deepcopy(convnet))


def test_nothing_is_left_behind(context: MakeContext, images: Tensor) -> None:
    network = resnet().to(memory_format=torch.channels_last)
    network.bn1.bias.requires_grad_(False)
    pruned = pruners["structured"].build(network, 0.5, context(excluded=ends(network)))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pruned.modules())
    assert not any(module.training for module in pruned.modules())
    frozen = [name for name, parameter in pruned.named_parameters() if not parameter.requires_grad]
    assert frozen == ["bn1.bias"]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in pruned.parameters() if p.dim() == 4)
    assert all(parameter.is_leaf for parameter in pruned.parameters())
    assert torch.is_grad_enabled()
    twin = copy.deepcopy(pruned)
    twin.load_state_dict(pruned.state_dict(), strict=True)
    assert torch.equal(twin(images), pruned(images))
    pruned(images).sum().backward()


def test_the_same_network_is_pruned_in_the_same_way_under_no_grad_too(context: MakeContext) -> None:
    network = resnet()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = prune(network, 0.4, context(excluded=ends(network)))
    with torch.no_grad():
        second = prune(network, 0.4, context(excluded=ends(network)))
    assert torch.equal(state, torch.get_rng_state())
    twin = second.state_dict()
    assert all(torch.equal(value, twin[key]) for key, value in first.state_dict().items())


@pytest.mark.parametrize("include_input", [False, True])
@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"class_token": False, "global_pool": "avg"}], ids=str)
def test_vision_transformers_keep_their_heads(
    options: dict[str, Any], include_input: bool, context: MakeContext, images: Tensor
) -> None:
    network = vit(**options)
    excluded = {"head"} if include_input else ends(network)
    pruned = prune(network, 0.4, context(excluded=excluded), scope="layer")
    assert 1 - params(pruned) / params(network) == pytest.approx(0.4, abs=0.02)
    assert pruned(images).shape == (2, 5)
    attention: Any = pruned.get_submodule("blocks.0.attn")
    assert attention.num_heads == 3
    assert attention.qkv.out_features == 3 * 3 * attention.head_dim
    assert (attention.head_dim < 16) != ("qk_norm" in options)
    assert (pruned.get_parameter("pos_embed").shape[-1] < 48) == include_input


@pytest.mark.parametrize("fused", [True, False])
def test_dimensions_of_heads_that_are_zero_are_not_missed(fused: bool, context: MakeContext, images: Tensor) -> None:
    network = vit()
    dead = torch.tensor([head * 16 + dimension for head in range(3) for dimension in (1, 4, 5, 15)])
    blocks: Any = network.get_submodule("blocks")
    with torch.no_grad():
        for block in blocks:
            block.attn.fused_attn = fused
            rows = torch.cat([dead, dead + 48, dead + 96])
            block.attn.qkv.weight.mul_(20)  # so that attention is far from uniform
            block.attn.qkv.weight[rows] = 0
            block.attn.qkv.bias[rows] = 0
            block.attn.proj.weight[:, dead] = 0
    ratio = 2 * 4 / (2 * (16 + 192))
    pruned = prune(network, ratio, context(excluded=ends(network)), of="channels")
    attention: Any = pruned.get_submodule("blocks.0.attn")
    assert attention.head_dim == 12
    assert torch.allclose(pruned(images), network(images), atol=1e-5)


def test_depthwise_and_grouped_convolutions_and_concatenations() -> None:
    images = torch.zeros(1, 3, 32, 32)
    spec = PruningContext(ImageSpec(3, 32, 32, 5), 0, lambda: iter(()), frozenset())
    grouped = [nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.Conv2d(16, 16, 3, groups=2), nn.Conv2d(16, 5, 1)]
    for network in (
        torchvision.models.mobilenet_v3_small(num_classes=5),
        torchvision.models.DenseNet(4, (1, 1), 8, num_classes=5),
        nn.Sequential(*grouped, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ):
        pruned = prune(network.eval(), 0.4, spec)
        assert 1 - params(pruned) / params(network) == pytest.approx(0.4, abs=0.05)
        assert pruned(images).shape == (1, 5)


def test_a_network_that_no_longer_fits_is_an_answer(context: MakeContext) -> None:
    class Reshaping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.second = nn.Linear(6, 5)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.second(self.first(images).reshape(len(images), 6, -1).mean(2))
            return logits

    with pytest.raises(InputError, match=r"structured pruning .* Reshaping.*choose another pruner"):
        prune(Reshaping().eval(), 0.5, context())
