"""Gradients of the loss on images, also of frozen parameters, in the precision of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Batches = Iterable[tuple[Tensor, Tensor]]


@contextmanager
def trainable(weights: Iterable[Tensor]) -> Iterator[None]:
    """Enable gradients, also of frozen weights, and restore them afterwards."""
    kept = [(weight, weight.requires_grad) for weight in weights]
    try:
        with torch.enable_grad():
            for weight, _ in kept:
                weight.requires_grad_(True)
            yield
    finally:
        for weight, before in kept:
            weight.requires_grad_(before)


def losses(network: nn.Module, batches: Batches) -> Iterator[tuple[Tensor, int]]:
    """Mean loss of each batch, with its number of images."""
    for images, labels in batches:
        yield cross_entropy(network(images).float(), labels), len(labels)


def gradients(loss: Tensor, weights: Iterable[Tensor], create_graph: bool = False) -> list[Tensor]:
    """Gradients of a loss; zeros for weights that it does not depend on."""
    return list(
        torch.autograd.grad(loss, list(weights), create_graph=create_graph, materialize_grads=True, allow_unused=True)
    )


def mean_gradient(network: nn.Module, batches: Batches, weights: Sequence[Tensor]) -> list[Tensor]:
    """Gradient of the mean loss of all images: float32, on the weights' device. Within `trainable`."""
    sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    images = 0
    for loss, number in losses(network, batches):
        for total, gradient in zip(sums, gradients(loss, weights), strict=True):
            total += gradient.float() * number
        images += number
    return [total / images for total in sums]


def squared_gradients(
    network: nn.Module, batches: Batches, weights: Sequence[Tensor], images: int
) -> tuple[list[Tensor], int]:
    """Sums over images of the squared gradient of the image's loss: float32. Within `trainable`.

    Args:
        images: how many to use, with one pass for each; all if there are fewer.

    Returns:
        The sums, and the number of images.
    """
    sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    seen = 0
    for batch, labels in batches:
        for image, label in zip(batch[: images - seen], labels[: images - seen], strict=True):
            loss = cross_entropy(network(image[None]).float(), label[None])
            for total, gradient in zip(sums, gradients(loss, weights), strict=True):
                total += gradient.float().square()
            seen += 1
        if seen >= images:
            break
    return sums, seen
