"""How the native networks draw their weights."""

from __future__ import annotations

from torch import nn


def initialize(network: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers as He et al. 2015 do, arXiv 1502.01852, equation 10.

    Normal, of variance 2 / fan-in, from torch's global generator; biases are zero.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
