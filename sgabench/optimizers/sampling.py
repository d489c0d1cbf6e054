"""Which random factor each parameter of a step gets: the part that all sampling optimizers share.

The options live in the parameter groups, so that groups can differ, schedulers can change them and
a state dict carries them, with the number of draws so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sgabench.optimizers import mask

Group = dict[str, Any]

# Drawing a few numbers for nobody is cheaper than the dozen calls of another chunk.
_BRIDGED = 1 << 14
# On the CPU short runs keep their memory from being returned to the system and fetched again.
_RUN_ON_CPU = 1 << 20


@dataclass(frozen=True)
class Drawn:
    """A parameter's part in a step.

    Attributes:
        group: the parameter group that it belongs to.
        gradient: its `.grad`.
        factor: float32 of its shape, fresh memory that may be overwritten; None stands for ones.
    """

    group: Group
    parameter: Tensor
    gradient: Tensor
    factor: Tensor | None


def check_sampling(group: Group) -> None:
    """Refuse sampling options that mean nothing.

    Args:
        group: a parameter group with ``sampling_rate`` and ``exclude``.

    Raises:
        ValueError: a value is out of range, or ``exclude`` is given for parameters without names.
    """
    rate, exclude = group["sampling_rate"], group["exclude"]
    if not 0 < rate <= 1:
        raise ValueError(f"Invalid sampling_rate: {rate}; it must be in (0, 1]")
    if isinstance(exclude, str) or not all(isinstance(pattern, str) for pattern in exclude):
        raise ValueError(f"Invalid exclude: {exclude!r}; it must be a list of name patterns")
    if exclude and "param_names" not in group:
        raise ValueError("exclude needs named parameters: pass model.named_parameters() to the optimizer")


def draw(groups: list[Group], optimizer: str, distribution: str = "bernoulli") -> Iterator[Drawn]:
    """Draw the factors of the next step, and count the draw in every group.

    Args:
        groups: all parameter groups of an optimizer; ``seed``, ``sampling_step``, ``sampling_rate``,
            ``rescale`` and ``exclude`` are read, ``sampling_step`` is advanced.
        optimizer: its name, for messages.
        distribution: ``bernoulli`` (0 or 1) or ``gaussian`` (the same mean s and variance s(1 - s)).

    Returns:
        Every parameter that has a gradient, with its factor (divided by s if ``rescale``). It is one
        for excluded parameters and for s = 1. The iterator must be exhausted.

    Raises:
        RuntimeError: a gradient is sparse; nothing has been counted then.
    """
    for group in groups:
        if any(p.grad is not None and p.grad.layout != torch.strided for p in group["params"]):
            raise RuntimeError(f"{optimizer} does not support sparse gradients")
    position = 0
    for group in groups:
        group["sampling_step"] += 1
        run: list[tuple[int, Tensor]] = []
        for index, parameter in enumerate(group["params"]):
            if parameter.grad is not None:
                if not _is_sampled(group, index):
                    yield Drawn(group, parameter, parameter.grad, None)
                else:
                    if run and not _joins(run, position, parameter):
                        yield from _draw_run(run, group, distribution)
                        run = []
                    run.append((position, parameter))
            position += parameter.numel()
        if run:
            yield from _draw_run(run, group, distribution)


def _is_sampled(group: Group, index: int) -> bool:
    if group["sampling_rate"] == 1:
        return False
    return not (group["exclude"] and _matches(group["param_names"][index], tuple(group["exclude"])))


@lru_cache(maxsize=100_000)
def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _joins(run: list[tuple[int, Tensor]], position: int, parameter: Tensor) -> bool:
    (first, _), (last, previous) = run[0], run[-1]
    if parameter.device != previous.device or position - last - previous.numel() > _BRIDGED:
        return False
    return parameter.device.type != "cpu" or position + parameter.numel() - first <= _RUN_ON_CPU


def _draw_run(run: list[tuple[int, Tensor]], group: Group, distribution: str) -> Iterator[Drawn]:
    """Factors of neighbouring parameters, out of one flat buffer."""
    start = run[0][0]
    count = run[-1][0] + run[-1][1].numel() - start
    which = (group["seed"], group["sampling_step"], start, count)
    rate, device = group["sampling_rate"], run[0][1].device
    if distribution == "gaussian":
        flat = mask.normal(*which, device).mul_(math.sqrt(rate * (1 - rate))).add_(rate)
    else:
        flat = mask.bernoulli(*which, rate, device)
    if group["rescale"]:
        flat.div_(rate)
    for position, parameter in run:
        assert parameter.grad is not None
        factor = flat[position - start :][: parameter.numel()].view(parameter.shape)
        yield Drawn(group, parameter, parameter.grad, factor)
