"""MobileNetV2 for small images (Sandler et al. 2018, arXiv 1801.04381, table 2), built of torchvision's parts."""

from __future__ import annotations

from torch import nn
from torchvision.models import MobileNetV2

from sgabench.plugins import ImageSpec

# Expansion, channels, blocks and stride of each stage: the paper's, but for the stride of the second, which is 2 there.
_STAGES = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]


def small_mobilenet(spec: ImageSpec, width: float) -> nn.Module:
    """Strides as is usual for images of 32 x 32: the first convolution and the second stage have 1 in place of 2.

    Args:
        spec: of the images.
        width: multiplier of all numbers of channels.
    """
    network: nn.Module = MobileNetV2(num_classes=spec.classes, width_mult=width, inverted_residual_setting=_STAGES)
    stem: nn.Sequential = network.get_submodule("features.0")  # type: ignore[assignment]
    first = nn.Conv2d(spec.channels, stem[1].num_features, kernel_size=3, padding=1, bias=False)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(first.weight, mode="fan_out")  # as torchvision draws the others
    stem[0] = first
    return network
