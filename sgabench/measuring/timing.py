"""Throughput and latency of a network."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgabench.models.layers import evaluating


@dataclass(frozen=True)
class Timing:
    """The time of a forward pass.

    Attributes:
        batch_size: images in a pass.
        median_s: seconds per pass, median of the runs.
        q1_s: first quartile of the runs.
        q3_s: third quartile of the runs.
        runs: number of measurements, each the mean over a block of passes.
        images_per_s: batch size / median.
        num_threads: threads that torch used on the CPU.
    """

    batch_size: int
    median_s: float
    q1_s: float
    q3_s: float
    runs: int
    images_per_s: float
    num_threads: int


def time_inference(
    network: nn.Module, images: Tensor, *, precision: Literal["fp32", "bf16"], min_run_time: float
) -> Timing:
    """Time forward passes as in an evaluation.

    Torch's own timer warms up, synchronizes the device, finds how many passes make a block that is long enough to be
    timed, and disables the garbage collector.

    Args:
        network: timed as it is, in evaluation mode; zeros among its weights make it no faster.
        images: one batch (N, C, H, W), on the network's device and in its memory format.
        precision: ``bf16`` runs under autocast.
        min_run_time: least seconds of timing, without the warm-up; up to five times as long while the quartiles are
            more than a tenth of the median apart.
    """
    # With CUDA's compiler but no GPU, the next import warns about something that is not used here.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer  # it imports setuptools

    with evaluating(network), torch.inference_mode():
        forward = _forward(network, images, precision)
        forward()  # the first pass may choose algorithms, which must not be timed
        threads = torch.get_num_threads()
        timer = Timer("forward()", globals={"forward": forward}, num_threads=threads)
        measured = timer.adaptive_autorange(min_run_time=min_run_time, max_run_time=5 * min_run_time)
    times = torch.tensor(measured.times, dtype=torch.float64)
    q1, median, q3 = torch.quantile(times, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    batch_size = len(images)
    return Timing(batch_size, median, q1, q3, len(times), batch_size / median, threads)


def speed_of(
    network: nn.Module,
    batch: Tensor,
    alone: Callable[[], AbstractContextManager[bool]],
    dense: nn.Module | None = None,
    *,
    precision: Literal["fp32", "bf16"],
    min_run_time: float,
) -> dict[str, Any]:
    """Throughput and latency of a network, as in a record.

    Args:
        network: on the device of the images.
        batch: normalized images, shape (N, C, H, W); the latency is that of the first.
        alone: a context in which no other process computes, if possible.
        dense: the network before pruning, which is timed in the same minute; None: not timed.
        precision, min_run_time: as for `time_inference`.
    """

    def time_one(of: nn.Module, images: Tensor) -> Timing:
        return time_inference(of, images, precision=precision, min_run_time=min_run_time)

    with alone() as was_alone:
        large, single = time_one(network, batch), time_one(network, batch[:1])
        beside = (time_one(dense, batch), time_one(dense, batch[:1])) if dense is not None else None
    speed = {
        "timed_alone": was_alone,
        "timing_batch": large.batch_size,
        "images_per_s": large.images_per_s,
        "batch_s": large.median_s,
        "batch_q1_s": large.q1_s,
        "batch_q3_s": large.q3_s,
        "latency_s": single.median_s,
        "latency_q1_s": single.q1_s,
        "latency_q3_s": single.q3_s,
    }
    if beside is not None:
        speed |= {
            "dense_images_per_s": beside[0].images_per_s,
            "dense_latency_s": beside[1].median_s,
            "measured_speedup": beside[0].median_s / large.median_s,
            "latency_speedup": beside[1].median_s / single.median_s,
        }
    return speed


def time_interleaved(
    functions: Mapping[str, Callable[[], object]],
    device: str,
    rounds: int,
    block_s: float = 0.05,
    least: int = 2,
    warm: int = 2,
) -> dict[str, list[float]]:
    """Time functions in turns, so that a temporary slowdown of the machine affects all of them.

    Args:
        functions: each is called in blocks of as many calls as take about ``block_s``, after ``warm`` calls that are
            not counted.
        device: synchronized before and after a block.
        rounds: each has a block of every function, in the opposite order of the previous round.
        block_s: seconds.
        least: fewest calls in a block.
        warm: calls before the first block.

    Returns:
        Seconds per call for each function: the means of its blocks, one per round.
    """
    calls = {}
    for name, function in functions.items():
        calls[name] = max(least, int(block_s / _block(function, warm, device)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions)
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in order:
                times[name].append(_block(functions[name], calls[name], device))
            order.reverse()
    finally:
        if collects:
            gc.enable()
    return times


def _block(function: Callable[[], object], calls: int, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        function()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls


def _forward(network: nn.Module, images: Tensor, precision: str) -> Callable[[], Tensor]:
    def forward() -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            output: Tensor = network(images)
        return output

    return forward
