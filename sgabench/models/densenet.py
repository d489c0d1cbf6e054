"""DenseNet for CIFAR (Huang et al. 2016, arXiv 1608.06993, section 3), without bottleneck and compression."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sgabench.models.batch_norm import batch_norm_relu
from sgabench.models.initialization import initialize
from sgabench.system.convolution import Conv3x3

_FIRST_CHANNELS = 16


class DenseNet(nn.Module):
    """A 3x3 convolution, three dense blocks with transitions between them, mean over pixels, classifier.

    Args:
        depth: 3n + 4 layers.
        channels: colour channels of the images.
        classes: length of the output.
        growth: channels that each layer adds; k in the paper.
    """

    def __init__(self, depth: int, channels: int, classes: int, growth: int = 12) -> None:
        super().__init__()
        layers, rest = divmod(depth - 4, 3)
        if layers < 1 or rest:
            raise ValueError(f"depth must be 3n + 4, got {depth}")
        width = _FIRST_CHANNELS
        self.conv1 = Conv3x3(channels, width)
        parts: list[nn.Module] = []
        for block in range(3):
            if block:
                parts.append(Transition(width))
            parts += [DenseLayer(width + i * growth, growth) for i in range(layers)]
            width += layers * growth
        self.blocks = nn.Sequential(*parts)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        x = batch_norm_relu(self.bn, self.blocks(self.conv1(images)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class DenseLayer(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, whose channels are put behind those of the input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = Conv3x3(inputs, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, inputs + growth, H, W)."""
        return torch.cat([x, self.conv(batch_norm_relu(self.bn, x))], dim=1)


class Transition(nn.Module):
    """BatchNorm, ReLU, a 1x1 convolution and 2x2 average pooling; a single pixel stays one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, width, H / 2, W / 2)."""
        return F.avg_pool2d(self.conv(batch_norm_relu(self.bn, x)), 2, ceil_mode=True)
