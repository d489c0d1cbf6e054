"""What one more ratio of a pruner costs, against one evaluation of the test split."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from sgabench.bench.benchmark import Benchmark, quartiles, ratios, spread
from sgabench.measuring.sweep import Sweep
from sgabench.measuring.timing import time_interleaved
from sgabench.plugins import ImageSpec, PruningContext, models, pruners, scores
from sgabench.system.environment import describe_environment
from sgabench.system.precision import uses_bf16
from sgabench.training.building import seeded, set_up_torch
from sgabench.training.data import CALIBRATION_IMAGES, Data, Images, batches, calibration

MODELS = ("resnet20", "resnet56")
PRUNERS = (*(score.name for score in scores.plugins()), "structured")
RATIOS = (0.2, 0.4, 0.6, 0.8)
SPEC = ImageSpec(channels=3, height=32, width=32, classes=10)
_FEW = 8  # images, to have everything imported
_IMAGES = {"cpu": 1000, "cuda": 10_000}
_ROUNDS = {"cpu": len(RATIOS), "cuda": 2 * len(RATIOS)}
_NOTE = (
    "First: what the first ratio of a pruner takes. Further: each further one: pruning, evaluation, and all that a "
    "cell measures but speed; the ratios {ratios} take turns. Rest: the same without the evaluation, waiting for gzip, "
    "which otherwise runs beside it. Evaluation: of the dense network. Ratio: further / evaluation in the same round, "
    "median [first to third quartile] of {rounds} rounds, in which they take turns. The test split: {images} images of "
    "noise, 3 x 32 x 32, of which scores see up to {seen}; weights untrained; precision {precision}."
)


def measure(names: Sequence[str], device: str, *, images: int | None = None) -> Benchmark:
    """Time sweeps of the built-in pruners, as a trial does them.

    Args:
        names: models as a suite names them, for images of 3 x 32 x 32 and 10 classes; none: `MODELS`.
        device: ``cpu`` or ``cuda``.
        images: in the test split; None: 10,000 as CIFAR-10 has, and a tenth of that on the CPU.

    Raises:
        InputError: an unknown model, or one whose channels cannot be removed.
    """
    set_up_torch(device, torch.get_num_threads())
    precision = "bf16" if uses_bf16(device) else "fp32"
    data = noise(images or _IMAGES[device], device)
    networks = {name: network_of(name, device) for name in names or MODELS}
    rows = [row for name, network in networks.items() for row in _of_model(name, network, data, precision, device)]
    shown = {"ratios": ", ".join(map(str, RATIOS)), "rounds": _ROUNDS[device], "precision": precision}
    note = _NOTE.format(images=len(data.test), seen=CALIBRATION_IMAGES, **shown)
    environment = describe_environment(device, torch.get_num_threads())
    return Benchmark("pruning", rows, [_shown(row) for row in rows], note, environment)


def noise(images: int, device: str) -> Data:
    """So many random images with random labels, as all splits of a data set."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, SPEC.channels, SPEC.height, SPEC.width), generator=generator)
    labels = torch.randint(0, SPEC.classes, (images,), generator=generator)
    split = Images(pixels.to(device, torch.uint8), labels.to(device))
    half = torch.full((SPEC.channels,), 0.5, dtype=torch.float64, device=device)
    return Data(SPEC, split, split.part(slice(0)), split, half, half)


def network_of(name: str, device: str) -> nn.Module:
    """An untrained model in evaluation mode, the same weights every time.

    Raises:
        InputError: an unknown model.
    """
    with seeded(0):
        network: nn.Module = models[name].build(SPEC)
    return network.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def sweep_of(network: nn.Module, data: Data, precision: str, threads: Executor) -> Sweep:
    """What a trial makes of its trained network."""
    images = calibration(data, 0)
    before = deepcopy(network)  # as good as any other for `movement`
    context = PruningContext(
        data.spec, 0, lambda: batches(data, images, 128), frozenset(), initial=lambda: deepcopy(before)
    )
    return Sweep(network, data, precision, context, threads)


def sweeping(sweep: Sweep, pruner: str, asked: Sequence[float], evaluating: bool = True) -> Callable[[], None]:
    """A function that does cells as a trial does them, but for their speed and their records.

    Args:
        sweep: of the trained network.
        pruner: with its default options.
        asked: the ratios.
        evaluating: False leaves out the evaluation, and shows what the rest takes.
    """
    options = pruners[pruner].resolve({})
    excluded = sweep.excluded(False, False)

    def cells() -> None:
        for ratio in asked:
            network = sweep.prune(pruner, options, ratio, excluded)
            measuring = sweep.begin_size(network, excluded)
            if evaluating:
                sweep.evaluate(network)
            measuring.result()

    return cells


def _of_model(name: str, network: nn.Module, data: Data, precision: str, device: str) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(1) as threads:
        sweeps = {pruner: sweep_of(network, data, precision, threads) for pruner in PRUNERS}
        dense = sweeps[PRUNERS[0]]
        for sweep in sweeps.values():
            sweep._kept = dense._kept  # one normalized test split for all
        few = sweep_of(network, noise(_FEW, device), precision, threads)
        first = {pruner: _first_s(pruner, few, sweep) for pruner, sweep in sweeps.items()}
        functions: dict[str, Callable[[], object]] = {"dense": lambda: dense.evaluate(network)}
        for pruner, sweep in sweeps.items():
            functions[pruner] = _in_turns(sweep, pruner)
            functions[f"rest of {pruner}"] = _in_turns(sweep, pruner, evaluating=False)
        times = time_interleaved(functions, device, _ROUNDS[device], block_s=0.01, least=1, warm=1)
    for pruner in PRUNERS:
        yield {
            "model": name,
            "pruner": pruner,
            "images": len(data.test),
            "precision": precision,
            "evaluation_s": quartiles(times["dense"]),
            "first_s": first[pruner],
            "further_s": quartiles(times[pruner]),
            "rest_s": quartiles(times[f"rest of {pruner}"]),
            "ratio": ratios(times[pruner], times["dense"]),
        }


def _in_turns(sweep: Sweep, pruner: str, evaluating: bool = True) -> Callable[[], None]:
    """One ratio a call."""
    cells = itertools.cycle([sweeping(sweep, pruner, [ratio], evaluating) for ratio in RATIOS])
    return lambda: next(cells)()


def _first_s(pruner: str, few: Sweep, fresh: Sweep) -> float:
    sweeping(few, pruner, RATIOS[:1])()  # imports, and whatever else is done once in a process
    cells = sweeping(fresh, pruner, RATIOS[:1])
    started = time.perf_counter()
    cells()
    return time.perf_counter() - started


def _shown(row: dict[str, Any]) -> dict[str, str]:
    return {
        "model": row["model"],
        "pruner": row["pruner"],
        "evaluation": f"{1e3 * row['evaluation_s'][1]:.1f} ms",
        "first": f"{1e3 * row['first_s']:.1f} ms",
        "further": f"{1e3 * row['further_s'][1]:.1f} ms",
        "rest": f"{1e3 * row['rest_s'][1]:.1f} ms",
        "ratio": spread(row["ratio"]),
    }
