"""Channels that torch-pruning removes are worth exactly what zeroing them is worth."""

from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from sgabench.models.cifar_resnet import BasicBlock, CifarResNet
from sgabench.models.structural import customized_pruners

Shortcut = Literal["A", "B"]
IMAGES = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trained_looking(shortcut: Shortcut, depth: int = 14) -> CifarResNet:
    """A network in double precision in which every channel matters and is different."""
    torch.manual_seed(3)
    network = CifarResNet(depth, 3, 10, shortcut, width=8).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    return network


def prune(network: CifarResNet, global_pruning: bool, importance: tp.importance.Importance) -> CifarResNet:
    """Prune half of the channels in place; return a copy in which they are zeroed instead."""
    masked = copy.deepcopy(network)
    names = {module: name for name, module in network.named_modules()}
    pruner = tp.pruner.MagnitudePruner(
        network,
        IMAGES,
        importance=importance,
        global_pruning=global_pruning,
        pruning_ratio=0.5,
        max_pruning_ratio=0.9,
        ignored_layers=[network.fc],
        customized_pruners=customized_pruners(),
    )
    for group in pruner.step(interactive=True):
        for member, channels in group:
            module = member.target.module
            if isinstance(module, nn.BatchNorm2d):
                zero_outputs(masked, names[module], list(channels))
        group.prune()
    return masked


def zero_outputs(network: CifarResNet, norm: str, channels: list[int]) -> None:
    def zero(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, channels] = 0
        return output

    network.get_submodule(norm).register_forward_hook(zero)
    parent = network.get_submodule(norm.rpartition(".")[0])
    if norm.endswith("bn2") and isinstance(parent, BasicBlock):
        parent.register_forward_hook(zero)  # else the shortcut would fill these channels again


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("global_pruning", [False, True])
def test_pruned_equals_masked(shortcut: Shortcut, global_pruning: bool) -> None:
    network = trained_looking(shortcut)
    dense = network(IMAGES)
    for _ in range(2):  # the second time, the shortcuts have gaps already
        masked = prune(network, global_pruning, tp.importance.RandomImportance())
        torch.testing.assert_close(network(IMAGES), masked(IMAGES), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(network(IMAGES), dense)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("global_pruning", [False, True])
def test_magnitude_pruning_leaves_a_network_that_trains(shortcut: Shortcut, global_pruning: bool) -> None:
    network = trained_looking(shortcut)
    before = sum(p.numel() for p in network.parameters())
    masked = prune(network, global_pruning, tp.importance.MagnitudeImportance(p=2))
    torch.testing.assert_close(network(IMAGES), masked(IMAGES), rtol=1e-9, atol=1e-9)
    network.train()(IMAGES).sum().backward()
    assert sum(p.numel() for p in network.parameters()) < 0.5 * before
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_every_stage_can_be_halved(shortcut: Shortcut) -> None:
    network = trained_looking(shortcut)
    prune(network, False, tp.importance.MagnitudeImportance(p=2))
    norms = [stage[-1].bn2.num_features for stage in (network.layer1, network.layer2, network.layer3)]
    assert norms == [4, 8, 16]


def test_a_pruned_network_can_be_copied() -> None:
    network = trained_looking("A", depth=8)
    prune(network, True, tp.importance.RandomImportance())
    assert torch.equal(copy.deepcopy(network)(IMAGES), network(IMAGES))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_tracing_leaves_images_of_one_channel_alone(shortcut: Shortcut) -> None:
    network = CifarResNet(8, 1, 10, shortcut, width=4)
    images = torch.randn(2, 1, 8, 8)
    pruner = tp.pruner.MagnitudePruner(
        network,
        images,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[network.fc],
        customized_pruners=customized_pruners(),
    )
    pruner.step()
    assert network(images).shape == (2, 10)
    assert network.conv1.weight.shape[:2] == (2, 1)
