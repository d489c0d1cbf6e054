"""What an optimizer's step costs, against torch's fused Adam on the same parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from sgabench.bench.benchmark import Benchmark, quartiles, ratios, spread
from sgabench.errors import InputError
from sgabench.measuring.timing import time_interleaved
from sgabench.optimizers.implementations import problem
from sgabench.optimizers.stoch_grad_adam import StochGradAdam
from sgabench.plugins import ImageSpec, models
from sgabench.system.environment import PeakMemory, describe_environment

MODELS = ("resnet20", "torchvision:resnet18", "torchvision:resnet50")
REFERENCE = "Adam, fused"
_IMAGES = ImageSpec(channels=3, height=32, width=32, classes=10)
_ROUNDS = 15
_NOTE = (
    "Step: median over {rounds} rounds, in which the optimizers take turns. Ratio: to the reference in the same round, "
    f"median [first to third quartile]. Reference: {REFERENCE}. Memory: the optimizer's state + what else the process "
    "or the device held at most during a step; parameters and gradients not counted.{left_out}"
)

Make = Callable[[list[nn.Parameter]], Optimizer]


def measure(names: Sequence[str], device: str, *, channels_last: bool = False) -> Benchmark:
    """Time steps for the parameters of models, with random gradients.

    Args:
        names: models as a suite names them, for images of 3 x 32 x 32 and 10 classes; none: `MODELS`.
        device: ``cpu`` or ``cuda``.
        channels_last: lay parameters out in memory as a training does, rather than row-major.

    Raises:
        InputError: an unknown model, or one without parameters.
    """
    makers, left_out = candidates(device)
    rows = [
        row
        for of, name in [(parameters_of(name, device, channels_last), name) for name in names or MODELS]
        for row in _of_model(name, of, makers, device)
    ]
    note = _NOTE.format(rounds=_ROUNDS, left_out="".join(f" Left out: {reason}." for reason in left_out))
    environment = describe_environment(device, torch.get_num_threads())
    return Benchmark("optimizers", rows, [_shown(row) for row in rows], note, environment)


def candidates(device: str) -> tuple[dict[str, Make], list[str]]:
    """What is compared on a device, by name, and what this machine does not have, with the reason."""
    made: dict[str, Make] = {
        REFERENCE: lambda of: Adam(of, lr=1e-4, fused=True),
        "Adam, foreach": lambda of: Adam(of, lr=1e-4, foreach=True),
        "SGD, fused": lambda of: SGD(of, lr=1e-4, momentum=0.9, fused=True),
    }
    left_out = []
    for name in ("triton" if device == "cuda" else "compiled", "foreach", "single"):
        missing = problem(name)
        if missing:
            left_out.append(f"StochGradAdam, {name}: {missing}")
        else:
            made[f"StochGradAdam, {name}"] = _stoch_grad_adam(name)
    return made, left_out


def parameters_of(name: str, device: str, channels_last: bool = False) -> list[nn.Parameter]:
    """The parameters of an untrained model, with gradients.

    Raises:
        InputError: an unknown model, or one without parameters.
    """
    network = models[name].build(_IMAGES).to(device)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    of: list[nn.Parameter] = list(network.parameters())
    if not of:
        raise InputError(f"model {name!r} has no parameters")
    for parameter in of:
        parameter.grad = 1e-2 * torch.randn_like(parameter)
    return of


def _stoch_grad_adam(implementation: Any) -> Make:
    return lambda of: StochGradAdam(of, lr=1e-4, implementation=implementation)


def _of_model(name: str, of: list[nn.Parameter], makers: dict[str, Make], device: str) -> Iterator[dict[str, Any]]:
    optimizers = {label: make(of) for label, make in makers.items()}
    for optimizer in optimizers.values():
        optimizer.step()
    transient = {label: _transient(optimizer, device) for label, optimizer in optimizers.items()}
    times = time_interleaved({label: optimizer.step for label, optimizer in optimizers.items()}, device, _ROUNDS)
    for label, optimizer in optimizers.items():
        yield {
            "model": name,
            "optimizer": label,
            "parameters": sum(parameter.numel() for parameter in of),
            "step_s": quartiles(times[label]),
            "ratio": ratios(times[label], times[REFERENCE]),
            "state_bytes": _state_bytes(optimizer),
            "transient_bytes": transient[label],
        }


def _transient(optimizer: Optimizer, device: str) -> int:
    peak = PeakMemory(device)
    optimizer.step()
    return peak.growth()


def _state_bytes(optimizer: Optimizer) -> int:
    values = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))


def _shown(row: dict[str, Any]) -> dict[str, str]:
    return {
        "model": row["model"],
        "optimizer": row["optimizer"],
        "parameters": f"{row['parameters'] / 1e6:.2f} M",
        "step": f"{1e3 * row['step_s'][1]:.2f} ms",
        "ratio": spread(row["ratio"]),
        "memory": f"{row['state_bytes'] / 1e6:.1f} + {row['transient_bytes'] / 1e6:.1f} MB",
    }
