"""Allocations: which layers compete with each other, and how many weights are removed from each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch

from sgabench.errors import InputError, suggestion


@dataclass(frozen=True)
class Field:
    """Layers whose weights compete with each other, by number, and their own ratio, if a table gives one."""

    layers: tuple[int, ...]
    ratio: float | None = None


def fields_of(allocation: Any, names: Sequence[str]) -> list[Field]:
    """The groups of layers that compete.

    Args:
        allocation: as written in a suite.
        names: of the prunable layers.

    Raises:
        InputError: a name in a table matches no layer.
    """
    everyone = range(len(names))
    if not names:
        return []
    if allocation in ("layer", "erk"):
        return [Field((number,)) for number in everyone]
    if not isinstance(allocation, Mapping):
        return [Field(tuple(everyone))]
    for name in allocation:
        if not any(fnmatchcase(layer, name) for layer in names):
            raise InputError(f"allocation: {name!r} matches no prunable layer{suggestion(name, names)}")
    given = [next((r for name, r in allocation.items() if fnmatchcase(layer, name)), None) for layer in names]
    rest = tuple(number for number in everyone if given[number] is None)
    alone = [Field((number,), given[number]) for number in everyone if given[number] is not None]
    return [*alone, *([Field(rest)] if rest else [])]


def counts_of(
    allocation: Any,
    fields: Sequence[Field],
    shapes: Sequence[torch.Size],
    ratio: float,
    bounds: Sequence[tuple[int, int]],
) -> list[int]:
    """How many weights are removed from each field.

    Args:
        allocation: as written in a suite.
        fields: of the layers.
        shapes: of the layers' weights.
        ratio: of all weights together.
        bounds: the fewest and the most that can be removed, for each field.

    Raises:
        InputError: the ratios of a table leave too many or too few weights for the rest.
    """
    sizes = [sum(shapes[number].numel() for number in field.layers) for field in fields]
    total = round(ratio * sum(sizes))
    if isinstance(allocation, Mapping):
        given = zip(fields, sizes, bounds, strict=True)
        counts = [-1 if f.ratio is None else max(round(f.ratio * n), low) for f, n, (low, _) in given]
        counts = _with_rest(counts, sizes, total, ratio)
    elif allocation == "erk":
        return _erk([shapes[field.layers[0]] for field in fields], total, bounds)
    else:
        counts = [round(ratio * size) for size in sizes]
    return [min(max(count, low), high) for count, (low, high) in zip(counts, bounds, strict=True)]


def _with_rest(counts: list[int], sizes: Sequence[int], total: int, ratio: float) -> list[int]:
    given = sum(count for count in counts if count >= 0)
    if -1 not in counts:
        if abs(total - given) > len(counts):
            raise InputError(
                f"allocation: the table covers every layer and prunes {given / sum(sizes):.3g} of the weights, "
                f"not {ratio:g}; leave layers out, or set ratios = [{given / sum(sizes):.3g}]"
            )
        return counts
    size = sizes[counts.index(-1)]
    if not 0 <= total - given <= size:
        most = (given + size) / sum(sizes)
        raise InputError(
            f"allocation: with the ratios of the table, from {given / sum(sizes):.3g} to {most:.3g} of the weights can "
            f"be pruned, not {ratio:g}"
        )
    return [total - given if count < 0 else count for count in counts]


def _erk(shapes: Sequence[torch.Size], total: int, bounds: Sequence[tuple[int, int]]) -> list[int]:
    """Erdős-Rényi-Kernel (Evci et al. 2020, arXiv 1911.11134, section 3.1): densities in proportion to
    (n_in + n_out + height + width) / (n_in n_out height width), of which none is above 1.
    """
    sizes = np.array([shape.numel() for shape in shapes], dtype=float)
    densities = np.array([sum(shape) / shape.numel() for shape in shapes])
    low, high = np.array(bounds, dtype=float).T

    def pruned(factor: float) -> Any:
        return np.clip(sizes * (1 - factor * densities), low, high)

    # The factor that removes the right total is found by bisection; a greater one removes fewer.
    total = int(min(max(total, low.sum()), high.sum()))
    few, many = 1.0 / densities.min(), 0.0
    for _ in range(100):
        middle = (few + many) / 2
        few, many = (middle, many) if pruned(middle).sum() < total else (few, middle)
    exact = pruned(many)
    counts = np.floor(exact).astype(int)
    # Rounded with the sum preserved: the largest remainders are rounded up.
    room = np.where(counts < high, exact - counts, -1.0)
    counts[np.argsort(-room, kind="stable")[: total - counts.sum()]] += 1
    return [int(count) for count in counts]
