"""Built-in pruners: every score with a pattern and an allocation; `structured`; importances of torch-pruning.

A pruner gets a copy of the network, in evaluation mode, and returns the pruned one: without hooks, masks or
parametrizations. Its option ``of`` says what its ratio is a fraction of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sgabench.plugins import pruners, scores
from sgabench.pruners.composed import composed
from sgabench.pruners.importances import OPTIONS, check_importance, importance_names

if TYPE_CHECKING:
    from torch import nn

    from sgabench.plugins import PruningContext


pruners.derive(scores, composed)


@pruners.register("structured", revision=3)
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


@pruners.register_source("tp", revision=2, names=importance_names, check=check_importance, added=("pattern", *OPTIONS))
def of_torch_pruning(
    name: str,
    network: nn.Module,
    ratio: float,
    context: PruningContext,
    *,
    scope: Literal["global", "layer"] = "global",
    of: Literal["params", "macs", "channels"] = "params",
    pattern: Literal["channels"] = "channels",
    p: Annotated[int, Field(ge=1, le=10)] | None = None,
    group_reduction: Literal["sum", "mean", "max", "prod", "first", "gate"] | None = None,
    normalizer: Literal["none", "sum", "mean", "max", "standarization", "gaussian", "lamp"] | None = None,
    bias: bool | None = None,
    multivariable: bool | None = None,
    images: Annotated[int, Field(ge=1, le=5000)] | None = None,
) -> nn.Module:
    """Remove whole channels, the least important first, by any importance of torch-pruning (tp:TaylorImportance)."""
    from sgabench.pruners.channels.named import ranking_of
    from sgabench.pruners.structured import prune_channels

    options = {
        "p": p,
        "group_reduction": group_reduction,
        "normalizer": normalizer,
        "bias": bias,
        "multivariable": multivariable,
        "images": images,
    }
    ranking = ranking_of(name, {key: value for key, value in options.items() if value is not None}, context)
    return prune_channels(network, ratio, context, scope, of, ranking)


# ShrinkBench's names (Blalock et al. 2020, arXiv 2003.03033), which uses the gradient of one batch, not of all.
pruners.register_alias("GlobalMagWeight", "magnitude", allocation="global")
pruners.register_alias("LayerMagWeight", "magnitude", allocation="layer")
pruners.register_alias("GlobalMagGrad", "taylor", allocation="global")
pruners.register_alias("LayerMagGrad", "taylor", allocation="layer")
pruners.register_alias("RandomPruning", "random", allocation="global")
# Names of torch.nn.utils.prune, which all but the last treat each layer by itself; ln_structured has n = 1.
pruners.register_alias("l1_unstructured", "magnitude", allocation="layer")
pruners.register_alias("ln_structured", "magnitude", pattern="filters", allocation="layer")
pruners.register_alias("random_unstructured", "random", allocation="layer")
pruners.register_alias("random_structured", "random", pattern="filters", allocation="layer")
pruners.register_alias("global_unstructured", "magnitude", allocation="global")
