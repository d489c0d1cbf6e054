"""How OpenMP's threads should wait: trainings with several settings, on an idle and on a busy machine.

    python benchmarks/threads.py

Each setting has processes of its own, which take turns; "busy" is beside one process that keeps a core busy. Shown for
each setting: images or steps a second, and their ratio to the same round's of torch's defaults (idle) and of one thread
(busy), medians over rounds. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from sgabench.plugins import ImageSpec, models
from sgabench.plugins.registry import optimizers
from sgabench.running.loops import Make, Processes, Resident, Workload
from sgabench.suite.choices import Choice
from sgabench.suite.tables import Recipe
from sgabench.system.environment import cores
from sgabench.system.threads import CHOICES
from sgabench.training.building import build_optimizer, initial_network, set_up_torch

SPEC = ImageSpec(channels=3, height=32, width=32, classes=10)
RECIPE = Recipe(epochs=1, batch_size=128, augmentation=("crop", "flip"))
DEFAULT, ONE = "PyTorch's default", "one thread"
SETTINGS: dict[str, dict[str, str]] = {
    DEFAULT: {"GOMP_SPINCOUNT": "300000"},  # libgomp's own; without any, sgabench's processes set theirs
    ONE: {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"spin {count:,}": {"GOMP_SPINCOUNT": str(count)} for count in (1_000, 3_000, 5_000, 7_000, 10_000)},
}


@dataclass
class Repeated:
    """Something that is done again and again.

    Attributes:
        once: does it, and says how much that was.
    """

    once: Callable[[], int]

    def block(self, seconds: float) -> float:
        """Go on for about so long; how much a second."""
        started, done = time.perf_counter(), 0
        while not done or time.perf_counter() - started < seconds:
            done += self.once()
        return done / (time.perf_counter() - started)


def training(work: Workload, threads: int) -> Resident:
    """Training steps of a trial, in images."""
    set_up_torch("cpu", threads)
    return Resident(work, "cpu", "fp32")


def evaluation(work: Workload, threads: int) -> Repeated:
    """Passes without gradients, as evaluation does them, in images."""
    set_up_torch("cpu", threads)
    network = initial_network(work.model, SPEC, 0).to(memory_format=torch.channels_last).eval()
    images = torch.rand(500, SPEC.channels, SPEC.height, SPEC.width).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def once() -> int:
        network(images)
        return len(images)

    return Repeated(once)


def compiled_step(threads: int) -> Repeated:
    """Steps of the compiled StochGradAdam on a network of 1.7 million weights."""
    set_up_torch("cpu", threads)
    network = initial_network(Choice("resnet110", "resnet110", models["resnet110"].resolve({})), SPEC, 0)
    name = "stochgradadam"
    optimizer = build_optimizer(Choice(name, name, optimizers[name].resolve({})), network, 0)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)

    def once() -> int:
        optimizer.step()
        return 1

    return Repeated(once)


@contextmanager
def environment(settings: dict[str, str]) -> Iterator[None]:
    """Processes that start meanwhile have these variables, and none of the others that matter."""
    before = dict(os.environ)
    for name in CHOICES:
        os.environ.pop(name, None)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def competitor(busy: bool) -> Iterator[None]:
    """One process that always computes."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def makes(model: str) -> dict[str, Any]:
    """What is measured, by name: threads to the processes that run at the same time."""
    work = Workload(Choice(model, model, models[model].resolve({})), SPEC, RECIPE)
    return {
        "training": lambda threads: [partial(training, work, threads)],
        "evaluation": lambda threads: [partial(evaluation, work, threads)],
        "compiled step": lambda threads: [partial(compiled_step, threads)],
        "two trainings": lambda threads: [partial(training, work, max(1, threads // 2))] * 2,
    }


def measure(make: Any, rounds: int, seconds: float) -> dict[tuple[str, bool], list[float]]:
    """Images/s by setting and whether the machine was busy, a number a round."""
    speeds: dict[tuple[str, bool], list[float]] = {}
    with ExitStack() as stack:
        loops: dict[str, Processes] = {}
        for name, settings in SETTINGS.items():
            with environment(settings):
                wanted: list[Make] = make(1 if name == ONE else cores())
                loops[name] = Processes(wanted, "cpu")
            stack.callback(loops[name].close)
        for busy in (False, True):
            with competitor(busy):
                for _ in range(rounds):
                    for name, loop in loops.items():
                        speeds.setdefault((name, busy), []).append(loop.block(seconds))
    return speeds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="resnet14")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    print("| what | setting | idle, a second | of the default | busy, a second | of one thread, busy |")
    print("|---|---|---:|---:|---:|---:|")
    for what, make in makes(options.model).items():
        speeds = measure(make, options.rounds, options.seconds)
        for name in SETTINGS:
            columns = []
            for busy, beside in ((False, DEFAULT), (True, ONE)):
                own, other = speeds[name, busy], speeds[beside, busy]
                ratio = statistics.median(a / b for a, b in zip(own, other, strict=True))
                columns += [f"{statistics.median(own):,.0f}", f"{ratio:.2f}"]
            print(f"| {what} | {name} | " + " | ".join(columns) + " |", flush=True)


if __name__ == "__main__":
    main()
