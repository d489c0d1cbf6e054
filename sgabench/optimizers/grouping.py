"""Which parameters have weight decay."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from sgabench.optimizers.sampling import keep_positions


def decay_weights_only(optimizer: Optimizer) -> None:
    """Take weight decay from parameters of fewer than two dimensions: biases and normalization.

    They form a group of their own beside each group that has the option, with the same other options. Masks stay.

    Args:
        optimizer: before its first step; groups without the option ``weight_decay`` are not changed.
    """
    keep_positions(optimizer.param_groups)
    groups = [part for group in optimizer.param_groups for part in _parts(group)]
    optimizer.param_groups[:] = groups  # in place: a wrapped optimizer shares the list


def _parts(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The group's weights, and the rest without decay, unless empty."""
    if "weight_decay" not in group:
        return [group]
    dimensions = [parameter.ndim for parameter in group["params"]]
    weights = _part(group, [index for index, number in enumerate(dimensions) if number >= 2])
    others = _part(group, [index for index, number in enumerate(dimensions) if number < 2])
    return [part for part in (weights, {**others, "weight_decay": 0.0}) if part["params"]]


def _part(group: dict[str, Any], indices: list[int]) -> dict[str, Any]:
    """The group with only some of its parameters, and what is kept per parameter for these."""
    each = {name: group[name] for name in ("params", "param_names", "positions") if name in group}
    return {**group, **{name: [values[index] for index in indices] for name, values in each.items()}}
