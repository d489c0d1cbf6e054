"""How many images a training sees in a second, against the loop that everyone writes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from sgabench.bench.benchmark import Benchmark
from sgabench.bench.loader import LoaderLoop
from sgabench.errors import InputError
from sgabench.measuring.timing import time_interleaved
from sgabench.models.operations import count_macs
from sgabench.plugins import ImageSpec, models
from sgabench.running.loops import Died, Processes, Workload, trials_at_once
from sgabench.suite.choices import Choice
from sgabench.suite.tables import Recipe
from sgabench.system.environment import cores, describe_environment
from sgabench.system.precision import has_bf16_instructions
from sgabench.training.building import initial_network, precision_on, set_up_torch

MODELS = ("resnet20",)
REFERENCE = "DataLoader loop"
SPEC = ImageSpec(channels=3, height=32, width=32, classes=10)
RECIPE = Recipe(epochs=1, batch_size=128, augmentation=("crop", "flip"), precision="bf16")
_ROUNDS = {"cpu": 5, "cuda": 3}
_BLOCK_S = {"cpu": 2.0, "cuda": 1.0}
_PRODUCT_SIZE = {"cpu": 2048, "cuda": 8192}
_NOTE = (
    "Batches of {batch} random images of 3 x 32 x 32, cropped and flipped, Adam. {reference}: two workers, transforms "
    "of PIL images, float32, row-major. The others are sgabench's steps: data on the device, channels last; several at "
    "once in {precision}, which a recipe that allows bf16 gets here. Each in its own processes. Median over {rounds} "
    "rounds, in which all take turns; ratio in the same round, median [first to third quartile]. Utilization: "
    "multiply-adds of the network, three times for forward and backward, of those of the fastest large matrix product "
    "({peaks}). Memory: what the processes or the device held at most beside what they held before."
)


def measure(names: Sequence[str], device: str, plugins: Sequence[Path] = ()) -> Benchmark:
    """Time trainings of models.

    Args:
        names: models as a suite names them, for images of 3 x 32 x 32 and 10 classes; none: `MODELS`.
        device: ``cpu`` or ``cuda``.
        plugins: files that processes have to load before they know the models.

    Raises:
        InputError: an unknown model, or one that cannot be trained so.
    """
    set_up_torch(device, cores())
    environment = describe_environment(device, cores())
    precision = precision_on(RECIPE, environment)
    peaks = {each: _peak(device, each) for each in precisions(device)}
    best = max(peaks.values())
    rows = [row for name in names or MODELS for row in _of_model(name, device, precision, best, plugins)]
    note = _NOTE.format(
        batch=RECIPE.batch_size,
        reference=REFERENCE,
        precision=precision,
        rounds=_ROUNDS[device],
        peaks=", ".join(f"{peak / 1e12:.2f} T/s in {each}" for each, peak in peaks.items()),
    )
    return Benchmark("training", rows, [_shown(row) for row in rows], note, environment)


def at_once(device: str) -> tuple[int, ...]:
    """Numbers of trainings at the same time that are measured."""
    return (2, 4, 8, 16) if device == "cuda" else tuple(sorted({2, cores()}))


def precisions(device: str) -> tuple[Literal["fp32", "bf16"], ...]:
    """Those that are measured: bf16 where it is computed by instructions of its own, faster or not."""
    return ("fp32", "bf16") if device == "cuda" or has_bf16_instructions() else ("fp32",)


def _of_model(name: str, device: str, precision: str, peak: float, plugins: Sequence[Path]) -> list[dict[str, Any]]:
    model = Choice(name, name, models[name].resolve({}))
    macs, _ = count_macs(initial_network(model, SPEC, 0), torch.zeros(1, SPEC.channels, SPEC.height, SPEC.width))
    work = Workload(model, SPEC, RECIPE, tuple(plugins))
    trials = partial(trials_at_once, work=work, device=device, precision=precision)
    makes: dict[str, Callable[[], Processes]] = {
        REFERENCE: lambda: Processes([partial(LoaderLoop, work, device)], device, plugins),
        **{f"one trial, {each}": partial(trials, 1, precision=each) for each in precisions(device)},
        **{f"{number} trials at once": partial(trials, number) for number in at_once(device)},
    }
    if device == "cuda":
        makes[f"one trial, {precision}, not captured"] = partial(trials, 1, captured=False)
    speeds: dict[str, list[float]] = {label: [] for label in makes}
    with ExitStack() as stack:
        loops = {}
        for label, make in makes.items():
            try:
                loops[label] = make()
            except Died as error:
                raise InputError(f"models: {name}: {label}: {error}") from error
            stack.callback(loops[label].close)
        for _ in range(_ROUNDS[device]):
            for label, loop in loops.items():
                speeds[label].append(loop.block(_BLOCK_S[device]))
    return [
        {
            "model": name,
            "mode": label,
            "images_per_s": _quartiles(of),
            "ratio": _quartiles([own / other for own, other in zip(of, speeds[REFERENCE], strict=True)]),
            "utilization": 3 * macs * statistics.median(of) / peak,
            "memory_bytes": loops[label].memory_bytes,
        }
        for label, of in speeds.items()
    ]


def _peak(device: str, precision: str) -> float:
    """Multiply-adds per second of a large matrix product."""
    size = _PRODUCT_SIZE[device]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    factor = torch.randn(size, size, device=device, dtype=dtype)
    product = torch.empty_like(factor)
    times = time_interleaved({"product": lambda: torch.mm(factor, factor, out=product)}, device, rounds=5)
    return float(size**3 / min(times["product"]))


def _quartiles(values: Sequence[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")


def _shown(row: dict[str, Any]) -> dict[str, str]:
    low, median, high = row["ratio"]
    return {
        "model": row["model"],
        "mode": row["mode"],
        "images/s": f"{row['images_per_s'][1]:,.0f}",
        "ratio": f"{median:.2f} [{low:.2f} to {high:.2f}]",
        "utilization": f"{100 * row['utilization']:.1f} %",
        "memory": f"{row['memory_bytes'] / 1e6:.0f} MB",
    }
