"""SynFlow: how much flows through each weight, without data."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sgabench.models.layers import evaluating, prunable_weights
from sgabench.plugins import PruningContext


def synaptic_flows(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """weight x gradient of the sum of the outputs for an image of ones (Tanaka et al. 2020, arXiv 2006.05467).

    Weights are replaced by their absolute values, and additive terms (biases, means) are left out: then a network of
    convolutions, linear layers, BatchNorm and ReLU adds up products of weights over all paths, and what flows into a
    channel flows out of it. In float64, because of the range of these products. To keep every layer alive at extreme
    ratios, the scores must be computed again after each part of the pruning: schedule ``iterative`` with
    ``epochs = 0``.
    """
    positive = copy.deepcopy(network).double()
    images = context.images
    with evaluating(positive):
        for module in positive.modules():
            for name, parameter in module.named_parameters(recurse=False):
                parameter.abs_() if name != "bias" else parameter.zero_()
                parameter.requires_grad_(True)
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                module.running_mean.zero_()
        weights = prunable_weights(positive, context.excluded)
        device = next(positive.parameters()).device
        ones = torch.ones(1, images.channels, images.height, images.width, dtype=torch.float64, device=device)
        with torch.enable_grad():
            flow = positive(ones).sum()
            gradients = torch.autograd.grad(flow, list(weights.values()), materialize_grads=True, allow_unused=True)
    return {
        name: weight.detach() * gradient for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }
