"""Networks of linear layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sgabench.models.initialization import initialize
from sgabench.plugins import ImageSpec


def fully_connected(spec: ImageSpec, widths: Sequence[int]) -> nn.Sequential:
    """All pixels in one row, then linear layers with ReLU between them.

    Args:
        spec: of the images.
        widths: of the hidden layers.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = spec.channels * spec.height * spec.width
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    network = nn.Sequential(*layers, nn.Linear(inputs, spec.classes))
    initialize(network)
    return network
