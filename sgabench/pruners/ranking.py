"""Orders of weights, which are the same for all ratios: a ratio is a threshold in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import prune


@dataclass(frozen=True)
class Weights:
    """Single weights of some layers in the order of their scores.

    Attributes:
        scores: of each layer, on its device.
        members: which weights are in the order, for each layer; None: all.
        ascending: their scores in increasing order.
    """

    scores: list[Tensor]
    members: list[Tensor] | None
    ascending: np.ndarray[Any, Any]

    @classmethod
    def of(cls, scores: list[Tensor], members: list[Tensor] | None = None) -> Weights:
        """Sort them."""
        row = flat(scores)
        if members is not None:
            row = row[flat(members).bool()]
        return cls(scores, members, np.sort(row.numpy()))

    @property
    def size(self) -> int:
        """The number of weights."""
        return len(self.ascending)

    def lowest(self, count: int) -> list[Tensor]:
        """Masks of the ``count`` lowest, for each layer."""
        if self.members is None:
            return self._lowest(count)
        lowest, left = [], count
        threshold = float(self.ascending[count - 1]) if count else -np.inf
        left = count - int(np.searchsorted(self.ascending, threshold)) if count else 0
        for score, members in zip(self.scores, self.members, strict=True):
            equal = (score == threshold) & members
            equal &= equal.flatten().cumsum(0).view(equal.shape) <= left
            left -= int(equal.sum())
            lowest.append(((score < threshold) & members) | equal)
        return lowest

    def _lowest(self, count: int) -> list[Tensor]:
        if 0 < count < self.size and self.ascending[count - 1] < self.ascending[count]:
            threshold = float(self.ascending[count - 1])
            return [score <= threshold for score in self.scores]
        return self._lowest_of_equals(count)

    def _lowest_of_equals(self, count: int) -> list[Tensor]:
        """Likewise, where no threshold separates that many: some of equal scores are chosen.

        Torch's pruning method computes the mask directly: on modules it would leave hooks and a second copy of the
        weights to remove, and fails for weights in channels-last format. It runs on the CPU, where ties are always
        broken in the same way.
        """
        row = flat(self.scores)
        if self.size and self.ascending[0] < 0:  # the method uses absolute values
            order = torch.empty_like(row, dtype=torch.int64)
            order[row.argsort(stable=True)] = torch.arange(len(row))
            row = order.double()
        mask = prune.L1Unstructured(count).compute_mask(row, torch.ones_like(row))  # type: ignore[no-untyped-call]
        parts = mask.split_with_sizes([score.numel() for score in self.scores])
        return [(part == 0).view(score.shape).to(score.device) for part, score in zip(parts, self.scores, strict=True)]


@dataclass(frozen=True)
class Units:
    """Groups of weights of some layers in the order of their scores; a group is removed as a whole.

    Attributes:
        numbers: the number of the group that each weight of each layer belongs to; layers have numbers of their own.
        order: the groups in increasing order of their scores.
        sizes: cumulative number of weights in this order; the first is 0.
    """

    numbers: list[Tensor]
    order: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, scores: list[Tensor], numbers: list[Tensor]) -> Units:
        """Sort them.

        Args:
            scores: of the groups of each layer.
            numbers: of the groups, by weight and layer, from 0 in each layer.
        """
        firsts = np.cumsum([0, *(len(score) for score in scores)])[:-1].tolist()
        moved = [number + first for number, first in zip(numbers, firsts, strict=True)]
        order = flat(scores).argsort(stable=True)
        counts = flat(moved).bincount(minlength=len(order))[order]
        return cls(moved, order, torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]))

    @property
    def size(self) -> int:
        """The number of weights."""
        return int(self.sizes[-1])

    def lowest(self, count: int) -> list[Tensor]:
        """Masks of the lowest groups with ``count`` weights in total, or as near to it as whole groups get."""
        above = int(torch.searchsorted(self.sizes, count))
        number = above if above == 0 or self.sizes[above] - count < count - self.sizes[above - 1] else above - 1
        gone = torch.zeros(len(self.order), dtype=torch.bool)
        gone[self.order[:number]] = True
        return [gone.to(numbers.device)[numbers] for numbers in self.numbers]


Tier = Weights | Units


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers in one vector on the CPU, in a type that NumPy has and that represents them exactly."""
    row = torch.cat([tensor.flatten().cpu() for tensor in tensors])
    return row.to(torch.promote_types(row.dtype, torch.float32)) if row.is_floating_point() else row
