"""What a training step of a CIFAR ResNet consists of, and how fast its convolutions are alone.

    OMP_NUM_THREADS=1 python benchmarks/convolutions.py [--model resnet20] [--precision fp32] [--rounds 5]

Shares of the processor time of a step with one thread, from PyTorch's profiler. Beside them, taking turns: the step,
its convolutions alone (forward and both gradients, same shapes, channels last), and a large matrix product.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
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


def convolutions_of(network: nn.Module, dtype: torch.dtype) -> list[Callable[[], Any]]:
    """Each convolution of a step, forward and backward, as a function; the first has no gradient of its input."""
    found: list[Callable[[], Any]] = []
    channels_last = torch.channels_last

    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        x = torch.randn(args[0].shape, dtype=dtype).contiguous(memory_format=channels_last)
        weight = module.weight.detach().to(dtype).contiguous(memory_format=channels_last)
        gradient = torch.randn(output.shape, dtype=dtype).contiguous(memory_format=channels_last)
        rest = module.stride, module.padding, module.dilation
        wanted = [bool(found), True, False]

        def both() -> None:
            torch.conv2d(x, weight, None, *rest)
            torch.ops.aten.convolution_backward(gradient, x, weight, None, *rest, False, [0, 0], 1, wanted)

        found.append(both)

    hooks = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with evaluating(network):
        network(torch.zeros(BATCH, SPEC.channels, SPEC.height, SPEC.width))
    for hook in hooks:
        hook.remove()
    return found


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
    alone = convolutions_of(network, dtype)
    product = torch.randn(2, SIDE, SIDE, dtype=dtype)
    # Operations, two a multiply-add: a step goes through the network three times, forward and for both gradients.
    timed: dict[str, tuple[Callable[[], Any], int]] = {
        "a large matrix product": (lambda: product[0] @ product[1], 2 * SIDE**3),
        "its convolutions alone": (lambda: [one() for one in alone], 6 * macs * BATCH),
        "the step": (lambda: trial.train(1), 6 * macs * BATCH),
    }
    speeds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(options.rounds + 1):
        for name, (run, operations) in timed.items():
            started = time.process_time()
            run()
            if number:  # the first warms up
                speeds[name].append(operations / (time.process_time() - started))
    print(f"| {model}, {options.precision} | TFLOP/s | of the product | of the convolutions |\n|---|---:|---:|---:|")
    for name, own in speeds.items():
        of = [statistics.median(a / b for a, b in zip(own, other, strict=True)) for other in list(speeds.values())[:2]]
        print(f"| {name} | {statistics.median(own) / 1e12:.3f} | {100 * of[0]:.0f} % | {100 * of[1]:.0f} % |")
    print("\n| part of a step | share |\n|---|---:|")
    for part, share in shares(lambda: trial.train(4)).items():
        print(f"| {part} | {100 * share:.0f} % |")


if __name__ == "__main__":
    main()
