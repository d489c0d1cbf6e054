"""Sweeps of pruners under pytest-benchmark (`make bench`): the same functions as `sgabench bench pruning`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from sgabench.bench.pruning import PRUNERS, RATIOS, network_of, noise, sweep_of, sweeping

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pruner", ["none", *PRUNERS])
def test_further_ratios(benchmark: Any, pruner: str, device: str) -> None:
    """As many ratios as evaluations of the dense network (none), after a first one."""
    network, images = network_of("resnet20", device), 10_000 if device == "cuda" else 1000
    benchmark.group = f"{len(RATIOS)} ratios or evaluations of {images} images, resnet20 on {device}"
    with ThreadPoolExecutor(1) as threads:
        sweep = sweep_of(network, noise(images, device), "fp32", threads)
        cells: Callable[[], object] = lambda: [sweep.evaluate(network) for _ in RATIOS]  # noqa: E731
        if pruner != "none":
            cells = sweeping(sweep, pruner, RATIOS)
        before = sweep.evaluate(network)
        benchmark.pedantic(cells, rounds=5, warmup_rounds=1)
        assert sweep.evaluate(network) == before  # pruning works on copies
