"""Built-in pruners: what every score makes with a pattern and an allocation, and `structured`.

A pruner gets a network of its own, in evaluation mode, and returns the pruned one: without hooks,
masks or parametrizations. What its ratio is a fraction of is its option ``of``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sgabench.plugins import pruners, scores
from sgabench.pruners.composed import composed

if TYPE_CHECKING:
    from torch import nn

    from sgabench.plugins import PruningContext


pruners.derive(scores, composed)


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
