"""Public helpers for authors of pruners, like `sgabench.plugins`."""

from sgabench.models.layers import (
    evaluating,
    input_and_classifier,
    is_within,
    prunable_layers,
    prunable_weights,
    weight_of,
)
from sgabench.models.statistics import reestimate_batch_norm

__all__ = [
    "evaluating",
    "input_and_classifier",
    "is_within",
    "prunable_layers",
    "prunable_weights",
    "reestimate_batch_norm",
    "weight_of",
]
