"""2:4 sparsity on kernels for it: what they refuse is a reason, and what they give is compared."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from sgabench.errors import InputError
from sgabench.measuring.sparse import check_logits, compress, speed_of_pattern
from sgabench.plugins import ImageSpec, PruningContext, pruners

SPEC = ImageSpec(channels=3, height=8, width=8, classes=8)
CUDA = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


def two_of_four(width: int = 128) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(192, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 8)]
        network = nn.Sequential(nn.Flatten(), *layers).eval()
    context = PruningContext(SPEC, 0, lambda: iter(()), frozenset({"5"}))
    return pruners["magnitude"].build(network, 0.5, context, pattern="2:4")  # type: ignore[no-any-return]


def speed(network: nn.Module, images: torch.Tensor) -> dict[str, Any]:
    return speed_of_pattern(
        network, images, lambda: nullcontext(True), network, {"5"}, precision="fp32", min_run_time=0.001
    )


def test_on_the_cpu_it_is_a_pattern_only_and_torch_says_why() -> None:
    network = two_of_four()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = speed(network, torch.randn(8, 3, 8, 8))
    with pytest.raises(RuntimeError) as refused:
        torch.sparse.to_sparse_semi_structured(network[1].weight.detach())  # type: ignore[index, union-attr]
    assert str(refused.value).split(".")[0] in found["pattern_only"]
    assert "\n" not in found["pattern_only"]
    assert "sparse_layers" not in found
    assert found["batch_s"] > 0
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_layers_without_the_pattern_are_not_compressed() -> None:
    dense = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 8))
    with pytest.raises(InputError, match="no prunable linear layer has two zeros in every four weights"):
        compress(dense, {"2"})
    with pytest.raises(InputError, match="no prunable linear layer"):
        compress(dense, set())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_logits_are_no_speed(dtype: torch.dtype) -> None:
    logits = torch.randn(4, 10).to(dtype)
    check_logits(logits * (1 + 1e-3), logits)
    with pytest.raises(InputError, match="the kernels give different logits: they differ by"):
        check_logits(logits.roll(1), logits)
    with pytest.raises(InputError, match="nan"):
        check_logits(logits * torch.nan, logits)


@pytest.mark.skipif(not CUDA, reason="needs CUDA from compute capability 8.0 on")
def test_on_kernels_the_speed_is_that_of_a_sparse_network() -> None:
    found = speed(two_of_four().cuda(), torch.randn(128, 3, 8, 8, device="cuda"))
    assert found["sparse_layers"] == 2
    assert "pattern_only" not in found
