"""Residual networks for small images beside those of the CIFAR family: ResNet-18 and Wide ResNets."""

from __future__ import annotations

from torch import Tensor, nn

from sgabench.models.batch_norm import batch_norm_relu
from sgabench.models.cifar_resnet import BasicBlock, projection
from sgabench.models.initialization import initialize
from sgabench.system.convolution import Conv3x3


class ResNet18(nn.Module):
    """ImageNet's ResNet-18 (He et al. 2015, arXiv 1512.03385, table 1) with the stem that is usual for CIFAR.

    The stem is a 3x3 convolution of stride 1, without pooling. Four stages of two blocks follow, with w, 2w, 4w and
    8w channels and projections where these change.

    Args:
        channels: colour channels of the images.
        classes: length of the output.
        width: w; 64 in the paper.
    """

    def __init__(self, channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.conv1 = Conv3x3(channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        stages = []
        inputs = width
        for factor in (1, 2, 4, 8):
            outputs = factor * width
            first = nn.Identity() if inputs == outputs else projection(inputs, outputs)
            stride = 1 if inputs == outputs else 2
            block = BasicBlock(inputs, outputs, first, stride)
            stages.append(nn.Sequential(block, BasicBlock(outputs, outputs, nn.Identity(), stride=1)))
            inputs = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        x = batch_norm_relu(self.bn1, self.conv1(images))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class WideResNet(nn.Module):
    """WRN-d-k without dropout (Zagoruyko & Komodakis 2016, arXiv 1605.07146, table 1).

    Args:
        depth: 6n + 4 layers; d.
        channels: colour channels of the images.
        classes: length of the output.
        factor: by which the stages are wider than 16, 32 and 64 channels; k.
    """

    def __init__(self, depth: int, channels: int, classes: int, factor: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise ValueError(f"depth must be 6n + 4, got {depth}")
        self.conv1 = Conv3x3(channels, 16)
        parts = []
        inputs = 16
        for stage in range(3):
            outputs = 16 * 2**stage * factor
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                parts.append(PreActivationBlock(outputs if block else inputs, outputs, stride))
            inputs = outputs
        self.blocks = nn.Sequential(*parts)
        self.bn = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        x = batch_norm_relu(self.bn, self.blocks(self.conv1(images)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class PreActivationBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions (He et al. 2016, arXiv 1603.05027).

    Where the number of channels changes, a 1x1 convolution of the activated input is the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = Conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = Conv3x3(outputs, outputs)
        self.shortcut: nn.Module | None = None
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        activated = batch_norm_relu(self.bn1, x)
        y: Tensor = self.conv2(batch_norm_relu(self.bn2, self.conv1(activated)))
        return y + (x if self.shortcut is None else self.shortcut(activated))
