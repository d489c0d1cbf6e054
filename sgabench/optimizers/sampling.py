"""Which random factor each parameter of a step gets: the part that all sampling optimizers share.

The options live in the parameter groups, so that groups can differ, schedulers can change them and
a state dict carries them, with the number of draws so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sgabench.optimizers import mask

Group = dict[str, Any]

# Drawing a few numbers for nobody is cheaper than the dozen calls of another chunk.
_BRIDGED = 1 << 14


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


def draw(groups: Iterable[Group], distribution: str = "bernoulli") -> dict[Tensor, Tensor]:
    """Draw the factors of the next step and count the draw in every group.

    Args:
        groups: all parameter groups of an optimizer; ``seed``, ``sampling_step``, ``sampling_rate``,
            ``rescale`` and ``exclude`` are read, ``sampling_step`` is advanced.
        distribution: ``bernoulli`` (0 or 1) or ``gaussian`` (the same mean s and variance s(1 - s)).

    Returns:
        Parameter -> factor of its shape, float32, divided by s if ``rescale``. Parameters without a
        gradient, excluded ones and those with s = 1 are missing: their factor is one.
    """
    factors: dict[Tensor, Tensor] = {}
    position = 0
    for group in groups:
        group["sampling_step"] += 1
        run: list[tuple[int, Tensor]] = []
        for index, parameter in enumerate(group["params"]):
            if _is_sampled(group, index, parameter):
                if run and not _adjoins(run[-1], position, parameter):
                    factors.update(_draw_run(run, group, distribution))
                    run = []
                run.append((position, parameter))
            position += parameter.numel()
        if run:
            factors.update(_draw_run(run, group, distribution))
    return factors


def _is_sampled(group: Group, index: int, parameter: Tensor) -> bool:
    if parameter.grad is None or group["sampling_rate"] == 1:
        return False
    return not (group["exclude"] and _matches(group["param_names"][index], tuple(group["exclude"])))


@lru_cache(maxsize=100_000)
def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _adjoins(last: tuple[int, Tensor], position: int, parameter: Tensor) -> bool:
    end = last[0] + last[1].numel()
    return position - end <= _BRIDGED and parameter.device == last[1].device


def _draw_run(run: list[tuple[int, Tensor]], group: Group, distribution: str) -> Iterable[tuple[Tensor, Tensor]]:
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
        yield parameter, flat[position - start :][: parameter.numel()].view(parameter.shape)


def gradients(group: Group, optimizer: str) -> list[tuple[Tensor, Tensor]]:
    """The parameters of a group that have a gradient, with it.

    Raises:
        RuntimeError: a gradient is sparse.
    """
    pairs = [(parameter, parameter.grad) for parameter in group["params"] if parameter.grad is not None]
    if any(gradient.layout != torch.strided for _, gradient in pairs):
        raise RuntimeError(f"{optimizer} does not support sparse gradients")
    return pairs
