"""VGG with BatchNorm, for small images (Simonyan & Zisserman 2014, arXiv 1409.1556, table 1, columns A and D)."""

from __future__ import annotations

from torch import Tensor, nn

from sgabench.models.batch_norm import batch_norm_relu
from sgabench.models.initialization import initialize
from sgabench.system.convolution import Conv3x3

# Convolutions of each stage; the stages have w, 2w, 4w, 8w and 8w channels.
STAGES = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


class Vgg(nn.Module):
    """Stages of 3x3 convolutions, each followed by 2x2 max pooling; mean over what is left, one linear layer.

    The three linear layers of the ImageNet version, and their 124 million weights, are left out, as is usual for
    images of 32 x 32. An image that is down to one pixel is pooled no further.

    Args:
        depth: 11 or 16, as the paper counts layers (two of them are not there).
        channels: colour channels of the images.
        classes: length of the output.
        width: w; 64 in the paper.
    """

    def __init__(self, depth: int, channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        inputs = channels
        for convolutions, factor in zip(STAGES[depth], (1, 2, 4, 8, 8), strict=True):
            outputs = factor * width
            layers = [ConvNormRelu(inputs if i == 0 else outputs, outputs) for i in range(convolutions)]
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True)))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        logits: Tensor = self.fc(self.stages(images).mean(dim=(2, 3)))
        return logits


class ConvNormRelu(nn.Module):
    """A 3x3 convolution, BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv3x3(inputs, outputs)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        return batch_norm_relu(self.bn, self.conv(x))
