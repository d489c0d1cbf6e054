"""BatchNorm statistics of any network, estimated anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sgabench.models.layers import evaluating


def reestimate_batch_norm(network: nn.Module, batches: Iterable[tuple[Tensor, Any]]) -> None:
    """Replace the running statistics of all BatchNorm layers by those of the batches.

    Every image counts the same, however it is batched. All other layers stay in evaluation mode. A
    network without BatchNorm statistics is not run.

    Args:
        network: changed in place; modes and momenta are restored.
        batches: images (N, C, H, W) and labels, of the training split.

    Raises:
        ValueError: there are no batches.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    norms = [norm for norm in norms if norm.running_mean is not None]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    images_seen = 0
    with evaluating(network):
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.train()
            for images, _ in batches:
                images_seen += len(images)
                for norm in norms:
                    # makes the moving average the mean of all images so far
                    norm.momentum = len(images) / images_seen
                network(images)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    if not images_seen:
        raise ValueError("BatchNorm statistics need at least one batch of images")
