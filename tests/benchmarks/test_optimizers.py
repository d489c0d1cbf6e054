"""Steps of optimizers under pytest-benchmark (`make bench`): the same functions as `sgabench bench optimizers`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgabench.bench.optimizers import MODELS, candidates, parameters_of

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
CASES = [(device, name) for device in DEVICES for name in candidates(device)[0]]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("device", "name"), CASES, ids=" ".join)
def test_step(benchmark: Any, model: str, device: str, name: str) -> None:
    parameters = parameters_of(model, device)
    optimizer = candidates(device)[0][name](parameters)
    benchmark.group = f"{model} on {device}"
    benchmark.extra_info["parameters"] = sum(parameter.numel() for parameter in parameters)

    def step() -> None:
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark(step)
