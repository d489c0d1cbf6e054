"""Built-in probes.

A probe looks at a training, or at a dense or a pruned network (its tag ``on``), leaves it as it was, and
gives JSON values for the record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sgabench.plugins import probes

if TYPE_CHECKING:
    from torch import nn

    from sgabench.plugins import PruningContext
    from sgabench.plugins.specs import TrainingProbe


@probes.register("step-norm", on="training")
def step_norm(network: nn.Module) -> TrainingProbe:
    """How far steps go: the mean norm of the update of all weights, per epoch of the training."""
    from sgabench.probes.steps import StepNorms

    return StepNorms(network)


@probes.register("weights", on="dense")
def weights(
    network: nn.Module, context: PruningContext, *, bins: Annotated[int, Field(ge=2, le=1000)] = 64
) -> dict[str, Any]:
    """How the weights are spread: moments, quantiles and a histogram of their magnitudes."""
    from sgabench.probes.weights import describe_weights

    return describe_weights(network, bins)
