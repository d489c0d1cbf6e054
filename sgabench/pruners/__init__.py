"""Built-in pruners.

A pruner gets a network of its own, in evaluation mode, and returns the pruned one: without hooks,
masks or parametrizations. What its ratio is a fraction of is its option ``of``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sgabench.plugins import pruners

if TYPE_CHECKING:
    from torch import nn

    from sgabench.plugins import PruningContext


@pruners.register("magnitude")
def magnitude(
    network: nn.Module,
    ratio: float,
    context: PruningContext,
    *,
    scope: Literal["global", "layer"] = "global",
    of: Literal["weights"] = "weights",
) -> nn.Module:
    """Zero the smallest weights, of the whole network or of each layer."""
    from sgabench.pruners.unstructured import prune_smallest

    return prune_smallest(network, ratio, context, scope)


@pruners.register("random")
def random(
    network: nn.Module,
    ratio: float,
    context: PruningContext,
    *,
    scope: Literal["global", "layer"] = "global",
    of: Literal["weights"] = "weights",
) -> nn.Module:
    """Zero weights drawn at random, of the whole network or of each layer."""
    from sgabench.pruners.unstructured import prune_at_random

    return prune_at_random(network, ratio, context, scope)


@pruners.register("structured", revision=2)
def structured(
    network: nn.Module,
    ratio: float,
    context: PruningContext,
    *,
    scope: Literal["global", "layer"] = "global",
    of: Literal["params", "macs", "channels"] = "params",
) -> nn.Module:
    """Remove whole channels of small magnitude until the network is smaller by the ratio."""
    from sgabench.pruners.structured import prune_channels

    return prune_channels(network, ratio, context, scope, of)
