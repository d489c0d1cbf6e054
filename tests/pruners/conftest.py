"""Shared by the tests of the pruners: small networks with weights of one's own choice."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
import torch
from torch import nn

from sgabench.plugins import ImageSpec, PruningContext

IMAGES = ImageSpec(channels=3, height=8, width=8, classes=5)


@pytest.fixture
def context() -> Callable[..., PruningContext]:
    """Make a context: ``context(excluded=..., seed=...)``."""

    def make(excluded: Collection[str] = (), seed: int = 0) -> PruningContext:
        return PruningContext(IMAGES, seed, lambda: iter(()), frozenset(excluded))

    return make


@pytest.fixture
def convnet() -> nn.Sequential:
    """Three convolutions with BatchNorm, two linear layers; weights, biases and statistics at random."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2, groups=2),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 24),
            nn.ReLU(),
            nn.Linear(24, 5),
        )
        for norm in network:
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias)
                nn.init.normal_(norm.running_mean)
                nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return network.eval()


@pytest.fixture
def images() -> torch.Tensor:
    """Two images of the context's shape."""
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
