"""Pruning by scores of single weights: they become zero, alone or in groups; every tensor keeps its shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sgabench.errors import InputError
from sgabench.models.adaptive import layer_adaptive
from sgabench.models.layers import prunable_as_layers, weight_of
from sgabench.plugins import PruningContext
from sgabench.pruners.allocation import Field, counts_of, fields_of
from sgabench.pruners.parts import Pattern
from sgabench.pruners.patterns import removable, units_of
from sgabench.pruners.ranking import Tier, Units, Weights


def prune_by_scores(
    network: nn.Module,
    ratio: float,
    context: PruningContext,
    score: Callable[[], Mapping[str, Tensor]],
    pattern: Pattern,
    allocation: Any,
    *,
    zeros_first: bool = True,
) -> nn.Module:
    """Set the weights of lowest score to zero.

    Args:
        network: changed in place.
        ratio: of the prunable weights.
        context: keeps what is computed once for all ratios.
        score: for each prunable layer by name, a tensor of its weight's shape; higher stays.
        pattern: which weights go together. The score of a group is the mean of its weights': the loss for each weight
            that is removed.
        allocation: as written in a suite.
        zeros_first: weights that are zero already count as pruned, whatever their score.

    Returns:
        The same network. Of N prunable weights exactly ``round(ratio * N)`` are zero (more, if more were before; with
        the allocation ``layer``, in each layer); with blocks and filters, as near to it as whole ones get. With N:M and
        a ratio below 1 - N / M, only weights that N:M removes are zero.

    Raises:
        InputError: scores that do not fit the network, an allocation that does not.
    """
    layers = prunable_as_layers(network, context.excluded)
    if not layers:
        return network
    weights = [weight_of(layer) for layer in layers.values()]
    ranking = context.once("ranking", lambda: _rank(layers, score(), pattern, allocation, zeros_first))
    shapes = [weight.shape for weight in weights]
    can_be_whole = round(ratio * sum(shape.numel() for shape in shapes)) >= sum(field.first for field in ranking)
    bounds = [(max(field.first, field.zeros), field.size) if can_be_whole else (0, field.first) for field in ranking]
    counts = counts_of(allocation, [field.field for field in ranking], shapes, ratio, bounds)
    with torch.no_grad():
        for field, count in zip(ranking, counts, strict=True):
            for tier in field.tiers:
                part = min(count, tier.size)
                count -= part
                for number, lowest in zip(field.field.layers, tier.lowest(part), strict=True):
                    weights[number].masked_fill_(lowest, 0.0)
    return network


@dataclass(frozen=True)
class _Ranked:
    """Layers that compete with each other.

    Attributes:
        field: the layers.
        tiers: orders of their weights; a later one begins when the earlier ones are exhausted.
        zeros: number of weights that are zero already and count as pruned.
    """

    field: Field
    tiers: list[Tier]
    zeros: int

    @property
    def size(self) -> int:
        """The number of their weights."""
        return sum(tier.size for tier in self.tiers)

    @property
    def first(self) -> int:
        """How many of them must be removed before any other."""
        return self.tiers[0].size if len(self.tiers) > 1 else 0


def _rank(
    layers: Mapping[str, nn.Module],
    found: Mapping[str, Tensor],
    pattern: Pattern,
    allocation: Any,
    zeros_first: bool,
) -> list[_Ranked]:
    if not isinstance(found, Mapping):
        raise InputError(f"the score returns {type(found).__name__}, not a dictionary of layer names to tensors")
    modules = list(layers.values())
    scores = [_checked(name, layer, found) for name, layer in layers.items()]
    zeros = [weight_of(layer).detach() == 0 for layer in modules]
    were_zero = [int(zero.sum()) if zeros_first else 0 for zero in zeros]
    numbers = None
    if pattern.kind in ("block", "filters"):
        numbers = [units_of(layer, score, pattern) for layer, score in zip(modules, scores, strict=True)]
        groups = [_grouped(*each) for each in zip(scores, zeros, numbers, strict=True)]
        scores, zeros = [score for score, _ in groups], [zero for _, zero in groups]
    if allocation == "lamp":
        if any(bool((score < 0).any()) for score in scores):
            raise InputError("allocation: 'lamp' divides squared scores, but these are signed; name another one")
        scores = [layer_adaptive(score) for score in scores]
    if zeros_first and not _are_lowest(scores, zeros):
        scores = [s.masked_fill(zero, -torch.inf) for s, zero in zip(scores, zeros, strict=True)]
    removed = None
    if pattern.kind == "n:m":
        triples = zip(modules, scores, zeros, strict=True)
        removed = [removable(layer, score, pattern) | zero for layer, score, zero in triples]
    ranking = []
    for field in fields_of(allocation, list(layers)):
        of_field = [scores[number] for number in field.layers]
        tiers: list[Tier]
        if numbers is not None:
            tiers = [Units.of(of_field, [numbers[number] for number in field.layers])]
        elif removed is None or field.ratio == 0:
            tiers = [Weights.of(of_field)]
        else:
            first = [removed[number] for number in field.layers]
            tiers = [Weights.of(of_field, first), Weights.of(of_field, [~members for members in first])]
        ranking.append(_Ranked(field, tiers, sum(were_zero[number] for number in field.layers)))
    return ranking


def _grouped(scores: Tensor, zeros: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Mean score of each group, and whether it is zero as a whole."""
    sizes = numbers.flatten().bincount()
    sums = torch.zeros(len(sizes), dtype=torch.float64, device=scores.device)
    sums.index_add_(0, numbers.flatten(), scores.flatten().double())
    left = numbers[~zeros].bincount(minlength=len(sizes))
    return sums / sizes, left == 0


def _are_lowest(scores: list[Tensor], zeros: list[Tensor]) -> bool:
    """Whether the weights that are zero have the lowest scores."""
    found = [float(score[zero].max()) for score, zero in zip(scores, zeros, strict=True) if bool(zero.any())]
    others = [float(score[~zero].min()) for score, zero in zip(scores, zeros, strict=True) if not bool(zero.all())]
    return not found or not others or max(found) < min(others)


def _checked(name: str, layer: nn.Module, found: Mapping[str, Tensor]) -> Tensor:
    """The scores of a layer."""
    weight, score = weight_of(layer), found.get(name)
    if not isinstance(score, Tensor) or score.shape != weight.shape:
        what = f"{tuple(score.shape)}" if isinstance(score, Tensor) else "nothing"
        raise InputError(f"the score gives {what} for layer {name!r}, not a tensor of shape {tuple(weight.shape)}")
    if not bool(score.isfinite().all()):
        raise InputError(f"the score of layer {name!r} is not finite")
    return score.detach() if score.is_floating_point() else score.detach().float()
