"""Sizes that are known by hand, and what must not be counted twice or not at all."""

from __future__ import annotations

import copy
import gzip
import json
from dataclasses import asdict

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from sgabench.measuring.measurement import compression_ratio, measure_size, theoretical_speedup, transfer
from sgabench.models.cifar_resnet import CifarResNet
from sgabench.models.operations import count_macs, count_operations

IMAGE = torch.zeros(1, 3, 8, 8)


@pytest.fixture
def network() -> nn.Sequential:
    """864 + 576 weights in convolutions that run at 64 and 16 positions, 1280 in a classifier."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 4, 3, padding=1, stride=2, groups=2),
        nn.Flatten(),
        nn.Linear(64, 20),
    )


def test_everything_is_counted_as_by_hand(network: nn.Sequential) -> None:
    size = measure_size(network, IMAGE)
    assert size.params == 864 + 64 + 576 + 4 + 1280 + 20
    assert size.prunable_weights == 864 + 576 + 1280
    assert size.macs == size.nonzero_macs == 64 * 864 + 16 * 576 + 1280
    assert size.sparsity == 0
    assert size.nonzero_params == size.params - 32, "the biases of a fresh BatchNorm are zero"


def test_zeros_are_counted_where_they_are(network: nn.Sequential) -> None:
    with torch.no_grad():
        network[0].weight.view(-1)[:216] = 0
        network[4].weight[:5] = 0
        network[4].bias.zero_()
    size = measure_size(network, IMAGE, excluded={"0"})
    assert size.layer_sparsity == {"0": 0.25, "2": 0, "4": 0.25}
    assert size.prunable_weights == 576 + 1280
    assert size.sparsity == 320 / (576 + 1280)
    assert size.nonzero_params == size.params - 32 - 216 - 320 - 20
    assert size.macs == 64 * 864 + 16 * 576 + 1280, "executed densely"
    assert size.nonzero_macs == 64 * 648 + 16 * 576 + 960
    dense = measure_size(torch.nn.Sequential(*network), IMAGE)
    assert theoretical_speedup(dense, size) == dense.macs / size.nonzero_macs


def test_only_one_image_is_counted(network: nn.Sequential) -> None:
    assert measure_size(network, IMAGE.expand(5, -1, -1, -1)) == measure_size(network, IMAGE)
    assert count_macs(network, IMAGE.expand(5, -1, -1, -1))[0] == 5 * count_macs(network, IMAGE)[0]


def test_measuring_leaves_the_network_as_it_was(network: nn.Sequential) -> None:
    network.train()
    network[1].eval()
    before = copy.deepcopy(network.state_dict())
    fast_path = torch.backends.mha.get_fastpath_enabled()
    measure_size(network, torch.randn(2, 3, 8, 8))
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert network.training
    assert not network[1].training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert torch.backends.mha.get_fastpath_enabled() == fast_path


def test_operations_of_other_values_follow_from_what_is_not_zero(network: nn.Sequential) -> None:
    operations = count_operations(network, IMAGE)
    assert operations.follow_from_parameters
    with torch.no_grad():
        network[0].weight.view(-1)[:216] = 0
        network[4].weight[:5] = 0
    nonzero = {name: int(parameter.count_nonzero()) for name, parameter in network.named_parameters()}
    assert operations.nonzero(nonzero) == count_macs(network, IMAGE)[1] == 64 * 648 + 16 * 576 + 960


def test_tensors_that_travel_together_arrive_as_they_were() -> None:
    torch.manual_seed(0)
    tensors = [
        torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        torch.arange(5),
        torch.randn(3, 4, dtype=torch.float64).T,
        torch.tensor(7),
        torch.empty(0, 2),
        torch.randn(6).bfloat16(),
        torch.randn(2),
    ]
    arrived = transfer(tensors)
    assert [tensor.dtype for tensor in arrived] == [tensor.dtype for tensor in tensors]
    assert all(torch.equal(*pair) and pair[0].is_contiguous() for pair in zip(arrived, tensors, strict=True))
    assert len({tensor.untyped_storage().data_ptr() for tensor in arrived if tensor.numel()}) == 6
    assert transfer([]) == []


def test_known_networks() -> None:
    """He et al. 2015, arXiv 1512.03385, tables 1 and 6; torchvision's documentation."""
    torch.manual_seed(0)
    resnet20 = measure_size(CifarResNet(20, 3, 10), torch.zeros(1, 3, 32, 32))
    assert resnet20.params == pytest.approx(0.27e6, rel=0.02)
    assert resnet20.macs == pytest.approx(41e6, rel=0.02)
    resnet18 = count_macs(torchvision.models.resnet18(), torch.zeros(1, 3, 224, 224))[0]
    assert resnet18 == pytest.approx(1.814e9, rel=0.001)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_counted_however_it_is_computed(fused: bool) -> None:
    network = timm.create_model("vit_tiny_patch16_224", img_size=8, patch_size=4, depth=1, embed_dim=12, num_classes=5)
    network.blocks[0].attn.fused_attn = fused
    tokens, width = 5, 12
    linear = 3 * width**2 + width**2 + 2 * 4 * width**2
    by_hand = 4 * 48 * width + tokens * linear + 2 * tokens**2 * width + 5 * width
    assert count_macs(network, IMAGE) == (by_hand, by_hand)
    with torch.no_grad():
        network.blocks[0].attn.qkv.weight.zero_()
    assert count_macs(network, IMAGE) == (by_hand, by_hand - tokens * 3 * width**2)


class _Attention(nn.Module):
    """Multi-head attention of torch, whose projections run without their modules."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.reshape(len(images), 12, 16)
        attended: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return attended


def test_weights_are_recognized_outside_of_their_modules() -> None:
    torch.manual_seed(0)
    network = _Attention()
    projections, products = 12 * 4 * 16**2, 2 * 12**2 * 16
    assert count_macs(network, IMAGE) == (projections + products, projections + products)
    with torch.no_grad():
        network.attention.in_proj_weight[:32] = 0  # queries and keys
        network.attention.out_proj.weight.zero_()
    assert count_macs(network, IMAGE)[1] == projections // 4 + products


def test_shared_weights_are_stored_and_counted_once_but_used_twice() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 192, bias=False), nn.Linear(192, 192, bias=False))
    single = measure_size(nn.Sequential(nn.Flatten(), network[1]), IMAGE)
    network[2].weight = network[1].weight
    size = measure_size(network, IMAGE)
    assert size.params == size.prunable_weights == 192**2
    assert size.macs == 2 * 192**2
    assert size.bytes == single.bytes


def test_bytes_are_those_of_a_file_in_either_memory_format(network: nn.Sequential) -> None:
    size = measure_size(network, IMAGE)
    content = safetensors.torch.save(network.state_dict())
    assert size.bytes == len(content)
    assert size.gzip_bytes == pytest.approx(len(gzip.compress(content, 6)), rel=0.01)
    assert measure_size(network.to(memory_format=torch.channels_last), IMAGE) == size


def test_zeros_save_nothing_on_disk_until_they_are_compressed(network: nn.Sequential) -> None:
    before = measure_size(network, IMAGE)
    with torch.no_grad():
        network[0].weight.zero_()
    after = measure_size(network, IMAGE)
    assert after.bytes == before.bytes
    assert after.gzip_bytes < before.gzip_bytes - 864 * 3


def test_ratios_are_at_least_one_and_undefined_for_an_empty_network(network: nn.Sequential) -> None:
    dense = measure_size(network, IMAGE)
    assert compression_ratio(dense, dense) == dense.params / dense.nonzero_params
    assert theoretical_speedup(dense, dense) == 1
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    empty = measure_size(network, IMAGE)
    assert empty.sparsity == 1
    assert compression_ratio(dense, empty) is None
    assert theoretical_speedup(dense, empty) is None
    assert json.loads(json.dumps(asdict(empty), allow_nan=False)) == asdict(empty)


def test_a_network_without_prunable_weights_has_no_sparsity(network: nn.Sequential) -> None:
    with torch.no_grad():
        network[0].weight.zero_()
    assert measure_size(network, IMAGE, {"0", "2", "4"}).sparsity == 0
