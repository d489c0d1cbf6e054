"""What structured pruning must know of the self-attention of timm's vision transformers.

It reshapes by a stored number and size of heads. All heads lose the same number of dimensions here;
their number stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def prunable_heads(network: nn.Module) -> dict[nn.Module, int]:
    """The joint projections to queries, keys and values whose head size can shrink, with their heads."""
    return {
        module.qkv: module.num_heads  # type: ignore[misc]
        for module in network.modules()
        if _has_joint_projection(module) and _can_shrink(module)
    }


def is_kept_whole(name: str, network: nn.Module) -> bool:
    """Whether a module is a joint projection whose head size cannot shrink."""
    parent, _, attribute = name.rpartition(".")
    if attribute != "qkv":
        return False
    attention = network.get_submodule(parent)
    return _has_joint_projection(attention) and not _can_shrink(attention)


def update_head_sizes(heads: Mapping[nn.Module, int], network: nn.Module) -> None:
    """Tell attention modules the size of their heads after pruning.

    Scores are divided by the root of the head size. The queries make up for its change, so that the
    removed dimensions are all that is missing from a score.
    """
    modules: list[Any] = list(network.modules())
    for attention in modules:
        projection: Any = getattr(attention, "qkv", None)
        if projection not in heads:
            continue
        before = attention.head_dim
        after = projection.out_features // (3 * heads[projection])
        attention.head_dim = after
        attention.attn_dim = after * heads[projection]
        attention.scale = after**-0.5
        with torch.no_grad():
            for parameter in projection.parameters():
                parameter[: attention.attn_dim].mul_((after / before) ** 0.5)


def _has_joint_projection(module: nn.Module) -> bool:
    return isinstance(getattr(module, "qkv", None), nn.Linear) and isinstance(getattr(module, "num_heads", None), int)


def _can_shrink(attention: nn.Module) -> bool:
    """timm's attention since the size of its output is stored; a norm of single heads must not be there."""
    stored = all(isinstance(getattr(attention, name, None), int) for name in ("head_dim", "attn_dim"))
    return stored and isinstance(getattr(attention, "q_norm", None), nn.Identity)
