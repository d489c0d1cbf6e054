"""What a training step of a CIFAR ResNet consists of, and how fast its convolutions are alone.

    OMP_NUM_THREADS=1 python benchmarks/convolutions.py [--model resnet20] [--precision fp32] [--rounds 5]

Shares of the processor time of a step with one thread, from PyTorch's profiler. Beside them, taking turns: the step,
its convolutions alone (forward and both gradients, same shapes, channels last), the same by PyTorch, and a large matrix
product. Then each 3x3 convolution that is compiled here, relative to PyTorch's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from sgabench.models.layers import evaluating
from sgabench.models.operations import count_operations
from sgabench.plugins import ImageSpec, models
from sgabench.running.loops import Resident, Workload
from sgabench.suite.choices import Choice
from sgabench.suite.tables import Recipe
from sgabench.system.convolution import Conv3x3
from sgabench.training.building import set_up_torch

BATCH, SIDE = 128, 2048
SPEC = ImageSpec(channels=3, height=32, width=32, classes=10)
PARTS = {
    "convolutions, backward": ("convolution_backward", "_WinogradBackward"),
    "convolutions, forward": ("mkldnn_convolution", "convolution", "_Winograd"),
    "BatchNorm, ReLU and sums": ("_Fused", "_FusedBackward"),
    "optimizer": ("_fused_adam_", "_foreach"),
    "copies and changes of layout": ("copy_", "clone", "contiguous"),
    "additions of gradients": ("add_", "add"),
}


class Layer:
    """A convolution of a step by itself, on tensors of its own; the first of a network has no gradient of its input."""

    def __init__(self, layer: nn.Conv2d, images: Tensor, output: Tensor, dtype: torch.dtype, *, is_first: bool) -> None:
        self.layer = layer.train().to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._x = torch.randn(images.shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
        self._x.requires_grad_(not is_first)
        self._gradient = torch.randn(output.shape, dtype=dtype).contiguous(memory_format=torch.channels_last)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels in and out, and height."""
        return self._x.shape[1], self._gradient.shape[1], self._x.shape[2]

    def as_trained(self) -> None:
        """Forward and backward, as in a step."""
        of = (self._x, self.layer.weight) if self._x.requires_grad else (self.layer.weight,)
        torch.autograd.grad(self.layer(self._x), of, self._gradient)

    def by_pytorch(self) -> None:
        """The same operations of PyTorch."""
        layer, weight = self.layer, self.layer.weight.detach()
        rest = layer.stride, layer.padding, layer.dilation
        torch.conv2d(self._x.detach(), weight, None, *rest)
        wanted = [self._x.requires_grad, True, False]
        torch.ops.aten.convolution_backward(self._gradient, self._x, weight, None, *rest, False, [0, 0], 1, wanted)


def layers_of(network: nn.Module, dtype: torch.dtype) -> list[Layer]:
    """The convolutions of a step, in their order."""
    seen: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        seen.append((module, args[0], output))

    hooks = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with evaluating(network):
        network(torch.zeros(BATCH, SPEC.channels, SPEC.height, SPEC.width))
    for hook in hooks:
        hook.remove()
    return [Layer(*of, dtype, is_first=not number) for number, of in enumerate(seen)]


def all_of(calls: list[Callable[[], None]]) -> None:
    """Call one after the other."""
    for call in calls:
        call()


def seconds(work: Callable[[], Any]) -> float:
    """Processor time of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def against_pytorch(layers: list[Layer], rounds: int) -> None:
    """Print the processor time of each shape that is compiled, relative to PyTorch's, in rounds that take turns."""
    print("\n| 3x3 convolution | ms | by PyTorch | ratio |\n|---|---:|---:|---:|")
    for shape in dict.fromkeys(layer.shape for layer in layers):
        same = [layer for layer in layers if layer.shape == shape]
        if type(same[0].layer) is not Conv3x3 or same[0].layer.stride != (1, 1) or shape[0] == SPEC.channels:
            continue
        works = [partial(all_of, [one.as_trained for one in same]), partial(all_of, [one.by_pytorch for one in same])]
        times = [[seconds(work) for work in works] for _ in range(rounds + 1)][1:]
        ratios = statistics.quantiles((here / there for here, there in times), n=4)
        here, there = (1e3 * statistics.median(of) / len(same) for of in zip(*times, strict=True))
        print(f"| {shape[0]} to {shape[1]}, {shape[2]} x {shape[2]} | {here:.2f} | {there:.2f} ", end="")
        print(f"| {ratios[1]:.2f} [{ratios[0]:.2f} to {ratios[2]:.2f}] |")


def shares(work: Callable[[], Any]) -> dict[str, float]:
    """Parts of the processor time of a step."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    spent: Counter[str] = Counter()
    for event in profiler.key_averages():
        name = event.key.removeprefix("aten::")
        part = next((part for part, names in PARTS.items() if name in names), "everything else")
        spent[part] += event.self_cpu_time_total
    return {part: spent[part] / spent.total() for part in (*PARTS, "everything else")}


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    set_up_torch("cpu", 1)
    model = options.model
    work = Workload(
        Choice(model, model, models[model].resolve({})),
        SPEC,
        Recipe(epochs=1, batch_size=BATCH, augmentation=("crop", "flip")),
    )
    trial = Resident(work, "cpu", options.precision)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    network = models[model].build(SPEC)
    macs = count_operations(network, torch.zeros(1, SPEC.channels, SPEC.height, SPEC.width)).total
    alone = layers_of(network, dtype)
    product = torch.randn(2, SIDE, SIDE, dtype=dtype)
    # Operations, two a multiply-add: a step goes through the network three times, forward and for both gradients.
    timed: dict[str, tuple[Callable[[], Any], int]] = {
        "a large matrix product": (lambda: product[0] @ product[1], 2 * SIDE**3),
        "its convolutions by PyTorch": (partial(all_of, [one.by_pytorch for one in alone]), 6 * macs * BATCH),
        "its convolutions alone": (partial(all_of, [one.as_trained for one in alone]), 6 * macs * BATCH),
        "the step": (lambda: trial.train(1), 6 * macs * BATCH),
    }
    speeds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(options.rounds + 1):
        for name, (run, operations) in timed.items():
            took = seconds(run)
            if number:  # the first warms up
                speeds[name].append(operations / took)
    print(f"| {model}, {options.precision} | TFLOP/s | of the product | of the convolutions |\n|---|---:|---:|---:|")
    for name, own in speeds.items():
        others = [speeds["a large matrix product"], speeds["its convolutions alone"]]
        of = [statistics.median(a / b for a, b in zip(own, other, strict=True)) for other in others]
        print(f"| {name} | {statistics.median(own) / 1e12:.3f} | {100 * of[0]:.0f} % | {100 * of[1]:.0f} % |")
    print("\n| part of a step | share |\n|---|---:|")
    for part, share in shares(lambda: trial.train(4)).items():
        print(f"| {part} | {100 * share:.0f} % |")
    if dtype == torch.float32:
        against_pytorch(alone, 2 * options.rounds)


if __name__ == "__main__":
    main()
