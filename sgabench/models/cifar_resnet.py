"""The residual networks for CIFAR of He et al. 2015, arXiv 1512.03385, section 4.2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sgabench.models.batch_norm import batch_norm_relu
from sgabench.models.initialization import initialize
from sgabench.system.convolution import Conv3x3


class CifarResNet(nn.Module):
    """A 3x3 convolution, three stages of n blocks with w, 2w, 4w channels, mean over pixels, classifier.

    Weights are drawn as in He et al. 2015, arXiv 1502.01852, equation 10 (normal, variance
    2 / fan-in), from torch's global generator; biases are zero.

    Args:
        depth: 6n + 2 layers.
        channels: colour channels of the images.
        classes: length of the output.
        shortcut: where the number of channels doubles. A: strided identity, zeros for the new channels,
            no parameters. B: 1x1 convolution and BatchNorm.
        width: w; 16 in the paper.
    """

    def __init__(
        self, depth: int, channels: int, classes: int, shortcut: Literal["A", "B"] = "A", width: int = 16
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f"depth must be 6n + 2, got {depth}")
        self.conv1 = Conv3x3(channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(blocks, width, width, shortcut)
        self.layer2 = _stage(blocks, width, 2 * width, shortcut)
        self.layer3 = _stage(blocks, 2 * width, 4 * width, shortcut)
        self.fc = nn.Linear(4 * width, classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        x = batch_norm_relu(self.bn1, self.conv1(images))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (figure 2 of the paper)."""

    def __init__(self, inputs: int, outputs: int, shortcut: nn.Module, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = Conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = batch_norm_relu(self.bn1, self.conv1(x))
        return batch_norm_relu(self.bn2, self.conv2(y), self.shortcut(x))


class PaddedShortcut(nn.Module):
    """Option A: every second pixel of the input's channels; the new channels are zero.

    Which input an output channel shows is stored, not computed from the number of channels: when
    channels are pruned, on either side and in any pattern, the ones that stay still meet the channels
    that they were added to before. An output whose input is gone is zero. In this it prunes like
    option B's convolution: neither side forces channels of the other to go.

    Attributes:
        source: int64 (outputs,), 1 + the input channel that an output shows, or 0 for zeros. A buffer,
            so that weights of differently pruned networks do not fit each other unnoticed.
    """

    source: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        source = torch.zeros(outputs, dtype=torch.int64)
        source[:inputs] = torch.arange(1, inputs + 1)
        self.register_buffer("source", source)
        self._is_whole = True

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._look_at_source()

    def _look_at_source(self) -> None:
        """Find whether the outputs are the inputs in their order and then zeros, which needs no index."""
        whole = torch.arange(1, self.outputs + 1)
        self._is_whole = torch.equal(self.source.cpu(), whole * (whole <= self.inputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / 2, W / 2)."""
        shown = F.avg_pool2d(
            x, kernel_size=1, stride=2
        )  # of single pixels; its backward pass writes once, a slice's twice
        if self._is_whole:
            return F.pad(shown, (0, 0, 0, 0, 0, self.outputs - self.inputs))
        zero_first = F.pad(shown, (0, 0, 0, 0, 1, 0))
        return zero_first.index_select(1, self.source)

    def prune_inputs(self, pruned: Sequence[int]) -> None:
        """Forget input channels; outputs that showed them become zero."""
        kept = torch.ones(self.inputs + 1, dtype=torch.bool, device=self.source.device)
        kept[torch.as_tensor(pruned, dtype=torch.int64, device=kept.device) + 1] = False
        renumbered = (kept.cumsum(0) - 1) * kept
        self.source = renumbered[self.source]
        self.inputs = int(kept.sum()) - 1
        self._look_at_source()

    def prune_outputs(self, pruned: Sequence[int]) -> None:
        """Remove output channels."""
        kept = torch.ones(self.outputs, dtype=torch.bool, device=self.source.device)
        kept[torch.as_tensor(pruned, dtype=torch.int64, device=kept.device)] = False
        self.source = self.source[kept]
        self.outputs = len(self.source)
        self._look_at_source()

    def extra_repr(self) -> str:
        """Channels, for `print`."""
        return f"{self.inputs}, {self.outputs}"


def _stage(blocks: int, inputs: int, outputs: int, shortcut: Literal["A", "B"]) -> nn.Sequential:
    first: nn.Module = nn.Identity()
    if inputs != outputs:
        first = PaddedShortcut(inputs, outputs) if shortcut == "A" else projection(inputs, outputs)
    stride = 1 if inputs == outputs else 2
    rest = [BasicBlock(outputs, outputs, nn.Identity(), stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(inputs, outputs, first, stride), *rest)


def projection(inputs: int, outputs: int) -> nn.Sequential:
    """The shortcut of option B: a 1x1 convolution of stride 2 and BatchNorm."""
    convolution = nn.Conv2d(inputs, outputs, kernel_size=1, stride=2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
