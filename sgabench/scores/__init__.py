"""Built-in scores: how important each weight of a trained network is.

A score gets a network in evaluation mode, which it does not change, and a `PruningContext`. It returns, for each
prunable layer by name, a tensor of its weight's shape: higher stays. Every score is a pruner, too, with patterns,
allocations and schedules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sgabench.plugins import scores

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sgabench.plugins import PruningContext


@scores.register("magnitude")
def magnitude(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """The absolute value of the weight."""
    from sgabench.scores.values import magnitudes

    return magnitudes(network, context)


@scores.register("random", ignores_values=True)
def random(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """A random number: what any other score has to beat."""
    from sgabench.scores.values import random_numbers

    return random_numbers(network, context)


@scores.register("lamp")
def lamp(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """LAMP: the squared weight over the sum of its own and all larger squares of its layer."""
    from sgabench.models.adaptive import layer_adaptive
    from sgabench.scores.values import magnitudes

    return {name: layer_adaptive(values) for name, values in magnitudes(network, context).items()}


@scores.register("movement", signed=True)
def movement(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """How far the weight moved away from zero in training: its square minus that of its initial value."""
    from sgabench.scores.values import movements

    return movements(network, context)


@scores.register("taylor")
def taylor(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """First-order Taylor: |weight x gradient| of each batch, mean over batches."""
    from sgabench.scores.gradients import taylor_scores

    return taylor_scores(network, context)


@scores.register("snip")
def snip(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """SNIP: |weight x gradient| of the loss over all batches, as a share of the whole network's."""
    from sgabench.scores.gradients import connection_sensitivities

    return connection_sensitivities(network, context)


@scores.register("grasp", signed=True)
def grasp(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """GraSP: how much the squared norm of the gradient would fall without the weight (weight x Hessian x gradient)."""
    from sgabench.scores.gradients import gradient_flows

    return gradient_flows(network, context)


@scores.register("fisher")
def fisher(
    network: nn.Module, context: PruningContext, *, images: Annotated[int, Field(ge=1, le=5000)] = 256
) -> dict[str, Tensor]:
    """Diagonal Fisher, as optimal brain damage: half the squared weight times the mean squared gradient of an image."""
    from sgabench.scores.gradients import fisher_saliencies

    return fisher_saliencies(network, context, images)


@scores.register("synflow")
def synflow(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """SynFlow: the sum over all paths through the weight of the product of absolute weights; needs no data."""
    from sgabench.scores.paths import synaptic_flows

    return synaptic_flows(network, context)


@scores.register("wanda")
def wanda(network: nn.Module, context: PruningContext) -> dict[str, Tensor]:
    """Wanda: the absolute weight times the norm of the inputs that it is multiplied with."""
    from sgabench.scores.inputs import input_norms

    return input_norms(network, context)
