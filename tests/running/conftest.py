"""Plugins that misbehave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sgabench.plugins import PruningContext
from sgabench.plugins.registry import optimizers, probes, pruners


@pytest.fixture
def _plugins() -> None:
    """Plugins that misbehave."""

    @pruners.register("raising")
    def raising(network: nn.Module, ratio: float) -> nn.Module:
        """Raise at half of the weights."""
        if ratio == 0.5:
            raise RuntimeError("no pruning today")
        return network

    @pruners.register("nothing")
    def nothing(network: nn.Module, ratio: float) -> None:
        """Forget to return the network."""

    @optimizers.register("exploding")
    def exploding(parameters: Any) -> torch.optim.Optimizer:
        """Diverge at once."""
        return torch.optim.SGD(parameters, lr=1e30)

    @probes.register("spy", on="pruned")
    def spy(network: nn.Module, context: PruningContext) -> dict[str, Any]:
        """Count zeros, and look at the training images that pruners may use."""
        images = torch.cat([images for images, _ in context.batches()])
        zeros = sum(int((p == 0).sum()) for p in network.parameters())
        return {"zeros": zeros, "images": len(images), "excluded": sorted(context.excluded), "nan": float("nan")}
