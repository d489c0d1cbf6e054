"""Re-estimate the BatchNorm statistics of any network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sgabench.models.layers import evaluating


def reestimate_batch_norm(network: nn.Module, batches: Iterable[tuple[Tensor, Any]]) -> None:
    """Replace the running statistics of all BatchNorm layers by those of the batches.

    Every image counts the same, however it is batched. All other layers stay in evaluation mode. A
    network without BatchNorm statistics is not run. A last batch of one image, which has no variance if a
    BatchNorm layer sees one value per channel, is added to the previous batch.

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
            for images in _with_variance(network, norms, batches):
                if not images_seen:
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.train()
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


def _with_variance(
    network: nn.Module, norms: Sequence[nn.Module], batches: Iterable[tuple[Tensor, Any]]
) -> Iterator[Tensor]:
    """The images of the batches; a single last image is added to the previous batch, if a layer cannot use it alone."""
    held = None
    joins = False
    for images, _ in batches:
        if held is None:
            joins = _sees_single_values(network, norms, images[:1])
        elif joins and len(images) == 1:
            images = torch.cat([held, images])
        else:
            yield held
        held = images
    if held is not None:
        yield held


def _sees_single_values(network: nn.Module, norms: Sequence[nn.Module], image: Tensor) -> bool:
    """Whether a BatchNorm layer gets one value per channel of an image; the network is not changed."""
    single: list[bool] = []

    def look(module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        read = next(iter((*args, *named.values())))
        single.append(read.dim() < 2 or read.numel() == read.shape[0] * read.shape[1])

    hooks = [norm.register_forward_pre_hook(look, with_kwargs=True) for norm in norms]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return any(single)
