"""Scores from gradients of the loss on training images, in evaluation mode and in the precision of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sgabench.models.gradients import gradients, losses, mean_gradient, squared_gradients, trainable
from sgabench.models.layers import prunable_weights
from sgabench.plugins import PruningContext


def taylor_scores(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """|weight x gradient| of the mean loss of each batch, mean over batches (Molchanov et al. 2017, arXiv 1611.06440).

    At the end of a training, the gradient over all images is near zero, but that over a batch is not.
    """
    weights = prunable_weights(network, context.excluded)
    sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights.values()]
    batches = 0
    with trainable(weights.values()):
        for loss, _ in losses(network, context.batches()):
            for total, gradient in zip(sums, gradients(loss, weights.values()), strict=True):
                total += gradient.float().abs()
            batches += 1
    return _products(weights, [total / batches for total in sums])


def connection_sensitivities(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """|weight x gradient| of the mean loss of all images, over the sum of all (Lee et al. 2019, arXiv 1810.02340).

    SNIP uses the untrained network; here it is the one to be pruned.
    """
    weights = prunable_weights(network, context.excluded)
    with trainable(weights.values()):
        gradient = mean_gradient(network, context.batches(), list(weights.values()))
    found = _products(weights, [part.abs() for part in gradient])
    total = sum(float(score.sum(dtype=torch.float64)) for score in found.values())
    return {name: score / total if total else score for name, score in found.items()}


def gradient_flows(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """weight x (Hessian x gradient) of the mean loss of all images (Wang et al. 2020, arXiv 2002.07376, equation 8).

    GraSP removes the weights of largest -weight x Hg, so the score is its negative. It uses the untrained network, with
    logits divided by 200; here it is the network to be pruned, as it is. Two passes: the gradient, then its product
    with the Hessian.
    """
    weights = prunable_weights(network, context.excluded)
    sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights.values()]
    images = 0
    with trainable(weights.values()):
        gradient = mean_gradient(network, context.batches(), list(weights.values()))
        for loss, number in losses(network, context.batches()):
            own = gradients(loss, weights.values(), create_graph=True)
            product = sum((a.float() * b).sum() for a, b in zip(own, gradient, strict=True))
            assert isinstance(product, Tensor)
            parts = gradients(product, weights.values()) if product.requires_grad else []
            for total, part in zip(sums, parts, strict=bool(parts)):
                total += part.float() * number
            images += number
    return {
        name: weight.detach().float() * total / images
        for (name, weight), total in zip(weights.items(), sums, strict=True)
    }


def fisher_saliencies(network: nn.Module, context: PruningContext, images: int) -> dict[str, Tensor]:
    """weight^2 / 2 x the mean over images of the squared gradient of the image's loss.

    That is the saliency of optimal brain damage (LeCun et al. 1990) with the empirical Fisher information in place of
    the diagonal of the Hessian (Theis et al. 2018, arXiv 1801.05787).

    Args:
        images: how many to use, with one pass for each; all if there are fewer.
    """
    weights = prunable_weights(network, context.excluded)
    with trainable(weights.values()):
        sums, seen = squared_gradients(network, context.batches(), list(weights.values()), images)
    squares = [weight.detach().float().square() / 2 for weight in weights.values()]
    return {name: s * total / seen for name, s, total in zip(weights, squares, sums, strict=True)}


def _products(weights: Mapping[str, Tensor], factors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Absolute weights times what was found of each."""
    return {
        name: weight.detach().float().abs() * factor
        for (name, weight), factor in zip(weights.items(), factors, strict=True)
    }
