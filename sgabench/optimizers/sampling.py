"""Which random factor each parameter of a step gets: the part that all sampling optimizers share.

The options live in the parameter groups, so that groups can differ, schedulers can change them and
a state dict carries them, with the number of draws so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import accumulate, chain, groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sgabench.optimizers import mask

Group = dict[str, Any]

# Drawing a few unused numbers is cheaper than the dozen calls of another chunk.
_BRIDGED = 1 << 14
# On the CPU, short runs avoid that memory is returned to the system and fetched again.
_RUN_ON_CPU = 1 << 17


class Placed(NamedTuple):
    """A parameter that a step updates.

    Attributes:
        group: the parameter group that it belongs to.
        gradient: its `.grad`.
        position: of its first element, in the counter of the mask.
        sampled: whether the mask covers it.
    """

    group: Group
    parameter: Tensor
    gradient: Tensor
    position: int
    sampled: bool


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
        group: a parameter group with ``sampling_rate`` and ``exclude``, perhaps ``final_sampling_rate`` and ``hold``.

    Raises:
        ValueError: a value is out of range, or ``exclude`` is given for parameters without names.
    """
    exclude, final, hold = group["exclude"], group.get("final_sampling_rate"), group.get("hold", 1)
    rates = {"sampling_rate": group["sampling_rate"], "final_sampling_rate": 1 if final is None else final}
    for name, rate in rates.items():
        if not 0 < rate <= 1:
            raise ValueError(f"Invalid {name}: {rate}; it must be in (0, 1]")
    if not isinstance(hold, int) or hold < 1:
        raise ValueError(f"Invalid hold: {hold}; it must be an integer number of steps, 1 or more")
    if isinstance(exclude, str) or not all(isinstance(pattern, str) for pattern in exclude):
        raise ValueError(f"Invalid exclude: {exclude!r}; it must be a list of name patterns")
    if exclude and "param_names" not in group:
        raise ValueError("exclude needs named parameters: pass model.named_parameters() to the optimizer")


def place(groups: list[Group], optimizer: str) -> list[Placed]:
    """Count a draw in every group, and find what the next step updates.

    Args:
        groups: all parameter groups of an optimizer; ``sampling_step`` is advanced.
        optimizer: its name, for messages.

    Returns:
        Every parameter that has a gradient, group by group.

    Raises:
        RuntimeError: a gradient is sparse; nothing has been counted then.
    """
    for group in groups:
        if any(p.grad is not None and p.grad.layout != torch.strided for p in group["params"]):
            raise RuntimeError(f"{optimizer} does not support sparse gradients")
    placed = []
    for group, positions in zip(groups, _positions(groups), strict=True):
        group["sampling_step"] += 1
        for index, (parameter, position) in enumerate(zip(group["params"], positions, strict=True)):
            if parameter.grad is not None:
                sampled = _is_sampled(group, index)
                placed.append(Placed(group, parameter, parameter.grad, position, sampled))
    return placed


def drawn_now(group: Group) -> tuple[int, float]:
    """The number of a step's draw, counted from 1, and its rate.

    A mask may be held for several steps, and the rate may change linearly to another one at the last step.
    """
    step, rate, final = group["sampling_step"], group["sampling_rate"], group.get("final_sampling_rate")
    if final is not None:
        rate += (final - rate) * min(1.0, (step - 1) / max(1, group["sampling_steps"] - 1))
    return (step - 1) // group.get("hold", 1) + 1, rate


def keep_positions(groups: list[Group]) -> None:
    """Write the positions of parameters into their groups, as ``positions``, so that regrouping changes no mask.

    Args:
        groups: all parameter groups of an optimizer; those that draw no masks are not changed.
    """
    for group, positions in zip(groups, _positions(groups), strict=True):
        if "sampling_step" in group:
            group["positions"] = positions


def _positions(groups: list[Group]) -> list[list[int]]:
    """The position of each parameter's first element in the mask's counter: as kept, else counted in order."""
    positions: list[list[int]] = []
    counted = 0
    for group in groups:
        sizes = [parameter.numel() for parameter in group["params"]]
        starts = list(accumulate(sizes, initial=counted))
        counted = starts.pop()
        positions.append(group.get("positions", starts))
    return positions


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
    return chain.from_iterable(draw_runs(place(groups, optimizer), distribution))


def draw_runs(placed: Iterable[Placed], distribution: str = "bernoulli") -> Iterator[list[Drawn]]:
    """Draw the factors of parameters that have been placed.

    Returns:
        Parameters of one group and device at a time: those without a factor, or neighbours whose
        factors lie in one buffer, short enough for its memory to be used again.
    """
    for _, of_group in groupby(placed, key=lambda item: id(item.group)):
        run: list[Placed] = []
        plain: dict[torch.device, list[Drawn]] = {}
        for item in of_group:
            if not item.sampled:
                drawn = Drawn(item.group, item.parameter, item.gradient, None)
                plain.setdefault(item.parameter.device, []).append(drawn)
                continue
            if run and not _joins(run, item):
                yield _draw_run(run, distribution)
                run = []
            run.append(item)
        if run:
            yield _draw_run(run, distribution)
        yield from plain.values()


def _is_sampled(group: Group, index: int) -> bool:
    if drawn_now(group)[1] == 1:
        return False
    return not (group["exclude"] and _matches(group["param_names"][index], tuple(group["exclude"])))


@lru_cache(maxsize=100_000)
def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _joins(run: list[Placed], item: Placed) -> bool:
    first, last = run[0], run[-1]
    end = last.position + last.parameter.numel()
    if item.parameter.device != last.parameter.device or item.position - end > _BRIDGED:
        return False
    return item.parameter.device.type != "cpu" or item.position + item.parameter.numel() - first.position <= _RUN_ON_CPU


def _draw_run(run: list[Placed], distribution: str) -> list[Drawn]:
    """Factors of neighbouring parameters, out of one flat buffer."""
    group, start = run[0].group, run[0].position
    count = run[-1].position + run[-1].parameter.numel() - start
    step, rate = drawn_now(group)
    which, device = (group["seed"], step, start, count), run[0].parameter.device
    if distribution == "gaussian":
        flat = mask.normal(*which, device).mul_(math.sqrt(rate * (1 - rate))).add_(rate)
    else:
        flat = mask.bernoulli(*which, rate, device)
    if group["rescale"]:
        flat.div_(rate)
    factors = [flat[item.position - start :][: item.parameter.numel()].view(item.parameter.shape) for item in run]
    return [Drawn(group, item.parameter, item.gradient, factor) for item, factor in zip(run, factors, strict=True)]
