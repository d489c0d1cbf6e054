"""The CIFAR ResNets are those of the paper, and behave on every kind of input that is trained on."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from sgabench.models.cifar_resnet import BasicBlock, CifarResNet, PaddedShortcut

Shortcut = Literal["A", "B"]


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)],
)
def test_sizes_are_the_published_ones(depth: int, parameters: int) -> None:
    network = CifarResNet(depth, channels=3, classes=10)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_projections_add_their_convolutions_and_norms_only() -> None:
    def size(shortcut: Shortcut) -> int:
        return sum(p.numel() for p in CifarResNet(20, 3, 10, shortcut).parameters())

    assert size("B") - size("A") == (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


@pytest.mark.parametrize("depth", [8, 14, 152])
def test_depth_counts_weighted_layers(depth: int) -> None:
    network = CifarResNet(depth, channels=3, classes=10)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


@pytest.mark.parametrize("depth", [2, 7, 18])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="6n \\+ 2"):
        CifarResNet(depth, channels=3, classes=10)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (1, 28, 28), (2, 7, 5)])
def test_takes_images_of_any_size_and_channels(shortcut: Shortcut, shape: tuple[int, int, int]) -> None:
    network = CifarResNet(8, shape[0], 7, shortcut, width=4)
    network(torch.randn(2, *shape)).sum().backward()
    assert network(torch.randn(5, *shape)).shape == (5, 7)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_stages_halve_the_image_and_double_the_channels() -> None:
    shapes = []
    network = CifarResNet(14, channels=3, classes=10)
    for stage in (network.layer1, network.layer2, network.layer3):
        stage.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
    network(torch.zeros(2, 3, 32, 32))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_shortcut_a_is_every_second_pixel_and_zeros() -> None:
    x = torch.randn(2, 3, 6, 5)
    expected = torch.cat([x[:, :, ::2, ::2], torch.zeros(2, 4, 3, 3)], dim=1)
    assert torch.equal(PaddedShortcut(3, 7)(x), expected)


def test_shortcut_a_after_pruning_still_shows_the_same_channels() -> None:
    x = torch.randn(1, 4, 2, 2)
    shortcut = PaddedShortcut(4, 6)
    before = shortcut(x)
    shortcut.prune_inputs([1])
    shortcut.prune_outputs([0, 4])
    shortcut.prune_inputs([0])
    after = shortcut(x[:, [2, 3]])
    assert torch.equal(after[:, 1:3], before[:, 2:4])
    assert not after[:, [0, 3]].any()
    assert (shortcut.inputs, shortcut.outputs) == (2, 4)


def test_weights_of_networks_pruned_differently_do_not_fit() -> None:
    pruned = PaddedShortcut(4, 8)
    pruned.prune_outputs([3])
    with pytest.raises(RuntimeError, match="source"):
        PaddedShortcut(4, 8).load_state_dict(pruned.state_dict())


def test_shortcut_a_shows_what_loaded_weights_say() -> None:
    pruned = PaddedShortcut(5, 9)
    pruned.prune_inputs([1])
    pruned.prune_outputs([0])
    loaded = PaddedShortcut(4, 8)
    loaded.load_state_dict(pruned.state_dict())
    x = torch.randn(1, 4, 2, 2)
    assert torch.equal(loaded(x), pruned(x))
    loaded.prune_outputs([1])
    assert torch.equal(loaded(x), pruned(x)[:, [0, 2, 3, 4, 5, 6, 7]])


def test_block_adds_shortcut_before_the_last_relu() -> None:
    block = BasicBlock(2, 2, nn.Identity(), stride=1).eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(block(x), F.relu(x))


def test_initialization_has_variance_two_over_fan_in() -> None:
    torch.manual_seed(0)
    network = CifarResNet(20, channels=3, classes=10)
    for module in network.layer3.modules():
        if isinstance(module, nn.Conv2d):
            expected = math.sqrt(2 / (module.in_channels * 9))
            assert float(module.weight.detach().std()) == pytest.approx(expected, rel=0.03)
    assert not network.fc.bias.any()


def test_initial_weights_follow_the_global_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(CifarResNet(8, 3, 10, "B", width=4).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_trains_in_bf16_and_channels_last(shortcut: Shortcut) -> None:
    torch.manual_seed(0)
    network = CifarResNet(8, 3, 10, shortcut, width=4).to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 8, 8)
    expected = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images.to(memory_format=torch.channels_last))
    logits.float().sum().backward()
    torch.testing.assert_close(logits.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_compiles_without_graph_breaks(shortcut: Shortcut) -> None:
    torch.manual_seed(0)
    network = CifarResNet(8, 3, 10, shortcut, width=4)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(compiled(images), network(images))
