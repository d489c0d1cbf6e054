"""Proof that channels are removed correctly: the output equals that of the network with them set to zero."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from sgabench.models.layers import evaluating
from sgabench.pruners.channels.reference import masked_logits, zero
from sgabench.pruners.channels.removing import remove
from sgabench.pruners.channels.structure import Structure

# Relative to the largest logit: rounding in float32 is far below, a wrong channel far above.
TOLERANCE = 1e-3
_IMAGES = 4


def proven(network: nn.Module, structure: Structure, images: Tensor) -> Structure:
    """The part of a structure whose channels can be removed.

    Random weights replace the real ones: a layer that is zero would hide errors, which would appear later. Channels of
    all units are removed at once, half of each and then another part of each; if the outputs differ, the set of units
    is halved, and each unit that agrees together with the accepted ones is accepted.

    Args:
        network: it is not changed.
        structure: of this network.
        images: real ones (N, C, H, W); a few are used.
    """
    images = images[:_IMAGES]
    bad: set[str] = set()
    good: list[str] = []
    rest = list(structure.units)
    size = len(rest)  # of the next part; halved if it does not agree
    while rest:
        part = rest[:size]
        if _agree(network, structure, good + part, images):
            good, rest, size = good + part, rest[size:], 2 * size
        elif len(part) > 1:
            size = len(part) // 2
        else:
            unscaled = _unscaled(structure, part[0])
            if unscaled is not None and _agree(network, unscaled, good + part, images):
                structure = unscaled
                good += part
            else:
                bad |= {*part}
            rest = rest[1:]
    return structure.without(bad) if bad else structure


def _unscaled(structure: Structure, unit: str) -> Structure | None:
    """The structure as if a unit's channels did not scale attention scores; None if they do not."""
    members = structure.units[unit]
    others = [(name, vector) for name, vector in structure.attentions if not np.isin(members, vector).any()]
    return replace(structure, attentions=others) if len(others) < len(structure.attentions) else None


def _agree(network: nn.Module, structure: Structure, names: list[str], images: Tensor) -> bool:
    return all(_agree_without(network, structure, gone, images) for gone in _removals(structure, names))


def _removals(structure: Structure, names: list[str]) -> Iterator[np.ndarray]:
    """Channels to remove: half of each unit, then another part of each, so that no sizes agree by chance."""
    generator, others = np.random.default_rng(0), np.random.default_rng(1)
    halves = {name: generator.permutation(unit)[: len(unit) // 2] for name, unit in structure.units.items()}
    parts = {
        name: others.permutation(unit)[: others.integers(len(unit) // 2, len(unit))]
        for name, unit in structure.units.items()
    }
    for gone in (halves, parts):
        yield np.concatenate([np.empty(0, dtype=np.int64), *(gone[name] for name in names)])


def _agree_without(network: nn.Module, structure: Structure, gone: np.ndarray, images: Tensor) -> bool:
    kept = np.ones(structure.numbers + 1, dtype=bool)
    kept[gone] = False
    masked = _with_signal(network)  # made again each time: a kept copy would be another network in memory
    try:
        pruned = remove(masked, structure, kept)
        with evaluating(pruned):
            logits = pruned(images)
    except Exception:  # anything can be raised if parts no longer fit each other
        return False
    zero(masked, structure, kept)
    expected = masked_logits(masked, structure, kept, images)
    return bool(torch.isfinite(expected).all()) and agree(logits, expected)


def agree(logits: Tensor, expected: Tensor) -> bool:
    """Whether the logits of two networks are the same to rounding."""
    if logits.shape != expected.shape:
        return False
    finite = torch.isfinite(expected)
    scale = max(float(expected[finite].abs().max()), 1e-6) if bool(finite.any()) else 0.0
    return torch.allclose(logits.float(), expected.float(), rtol=0, atol=TOLERANCE * scale, equal_nan=True)


@torch.no_grad()
def _with_signal(network: nn.Module) -> nn.Module:
    """A copy with random weights, in which no layer hides another one."""
    loud = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    for parameter in loud.parameters():
        if not parameter.is_floating_point():
            continue
        offset = 1.0 if parameter.dim() < 2 and float(parameter.float().mean()) > 1e-8 else 0.0
        if parameter.is_contiguous() and parameter.dtype == torch.float32 and parameter.device.type == "cpu":
            parameter.normal_(generator=generator)  # the same numbers, without another tensor
        else:
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        parameter.mul_(0.3 if parameter.dim() < 2 else parameter[0].numel() ** -0.5).add_(offset)
    return loud
