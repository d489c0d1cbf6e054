"""Built-in probes.

A probe looks at a training, or at dense or pruned networks or both (its tag ``on``), does not change them, and returns
JSON values for the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field

from sgabench.plugins import probes

if TYPE_CHECKING:
    from torch import nn

    from sgabench.plugins import PruningContext
    from sgabench.plugins.specs import TrainingProbe

Kind = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "gaussian_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
]
ALL_KINDS = get_args(Kind)
ALL_STRENGTHS = (1, 2, 3, 4, 5)


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("one is named twice")
    return values


def _evaluations(options: Mapping[str, Any]) -> int:
    return len(options["kinds"]) * len(options["strengths"])


@probes.register("corruptions", on=("dense", "pruned"), evaluations=_evaluations)
def corruptions(
    network: nn.Module,
    context: PruningContext,
    *,
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1), AfterValidator(_different)] = ALL_KINDS,
    strengths: Annotated[
        tuple[Annotated[int, Field(ge=1, le=5)], ...], Field(min_length=1), AfterValidator(_different)
    ] = ALL_STRENGTHS,
) -> dict[str, Any]:
    """Top-1 on test images with noise, blur, less contrast, ..., at five strengths each, as in CIFAR-10-C."""
    from sgabench.probes.corruptions import accuracy_on_corrupted

    return accuracy_on_corrupted(network, context, kinds, strengths)


@probes.register("step-norm", on="training")
def step_norm(network: nn.Module) -> TrainingProbe:
    """How long steps are: the mean norm of the update of all weights, per epoch of the training."""
    from sgabench.probes.steps import StepNorms

    return StepNorms(network)


@probes.register("weights", on="dense")
def weights(
    network: nn.Module, context: PruningContext, *, bins: Annotated[int, Field(ge=2, le=1000)] = 64
) -> dict[str, Any]:
    """Distribution of the weights: moments, quantiles and a histogram of their magnitudes."""
    from sgabench.probes.weights import describe_weights

    return describe_weights(network, bins)
