"""What evaluation would gain from larger batches, and from BatchNorm folded into the convolutions.

    python benchmarks/evaluation.py [--model resnet20] [--rounds 9]

Processor time of one process with one thread, against batches as they are; variants take turns, so that what else the
machine does falls on all of them alike. Beside it, how far the logits of the folded network are from the network's own.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sgabench.models.cifar_resnet import BasicBlock, CifarResNet
from sgabench.plugins import ImageSpec
from sgabench.plugins.registry import REGISTRIES
from sgabench.training.evaluation import EVALUATION_BATCH, evaluate_batches

BATCHES = (125, 250, EVALUATION_BATCH, 1000, 2000)
IMAGES = 2000


class Folded(nn.Module):
    """A CIFAR ResNet whose BatchNorm is in its convolutions.

    Args:
        network: in evaluation mode; copied.
    """

    def __init__(self, network: CifarResNet) -> None:
        super().__init__()
        whole = copy.deepcopy(network)
        self.first = fuse_conv_bn_eval(whole.conv1, whole.bn1)
        blocks = [module for module in whole.modules() if isinstance(module, BasicBlock)]
        fused = [(fuse_conv_bn_eval(b.conv1, b.bn1), fuse_conv_bn_eval(b.conv2, b.bn2)) for b in blocks]
        self.convolutions = nn.ModuleList(convolution for pair in fused for convolution in pair)
        self.shortcuts = nn.ModuleList(block.shortcut for block in blocks)
        self.fc = whole.fc

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        x = self.first(images).relu_()
        for number, shortcut in enumerate(self.shortcuts):
            y = self.convolutions[2 * number](x).relu_()
            x = self.convolutions[2 * number + 1](y).add_(shortcut(x)).relu_()
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = ImageSpec(3, 32, 32, 10)
    network = REGISTRIES["models"][options.model].build(spec)
    images = torch.randn(IMAGES, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (IMAGES,))
    network = network.to(memory_format=torch.channels_last)
    with torch.no_grad():
        for part in images.split(250):  # statistics that are those of some data
            network(part)
    network.eval()
    folded = Folded(network).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def evaluation(of: nn.Module, batch: int) -> Callable[[], object]:
        parts = list(zip(images.split(batch), labels.split(batch), strict=True))
        return lambda: evaluate_batches(of, parts, "fp32")

    variants = {f"batches of {batch}": evaluation(network, batch) for batch in BATCHES}
    variants |= {f"folded, batches of {batch}": evaluation(folded, batch) for batch in BATCHES[1:4]}
    spent: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(options.rounds + 1):
        for name, run in variants.items():
            started = time.process_time()
            run()
            if number:  # the first warms up
                spent[name].append(time.process_time() - started)
    usual = spent[f"batches of {EVALUATION_BATCH}"]
    print(f"| {options.model}, {IMAGES} images | processor time against batches of {EVALUATION_BATCH} |\n|---|---:|")
    for name, seconds in spent.items():
        ratios = [one / other for one, other in zip(seconds, usual, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"| {name} | {middle:.2f} [{low:.2f} to {high:.2f}] |")
    with torch.inference_mode():
        own, other = (F.log_softmax(of(images), 1) for of in (network, folded))
    print(f"\nlog-probabilities differ by up to {(own - other).abs().max():.1e}; ", end="")
    print(f"{int((own.argmax(1) != other.argmax(1)).sum())} of {IMAGES} answers differ")


if __name__ == "__main__":
    main()
