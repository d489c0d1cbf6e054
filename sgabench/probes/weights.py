"""The distribution of the weights of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sgabench.models.layers import prunable_weights

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)

# Of log10 |w|. The same for every network, so that histograms can be overlaid.
HISTOGRAM_RANGE = (-6.0, 1.0)


def describe_weights(network: nn.Module, bins: int) -> dict[str, Any]:
    """Describe all prunable weights, including those excluded from pruning.

    Args:
        network: any network.
        bins: of the histograms.

    Returns:
        ``edges``: bins + 1 edges of log10 |w|; ``all`` and, by name, ``layers``: each with
        ``count``, ``zeros`` (number of weights), ``mean``, ``std``, ``kurtosis`` (excess: 0 for a
        normal distribution), ``quantiles`` of |w| and ``histogram``: the numbers of non-zero weights
        per bin, with values beyond in the outermost bins. Undefined numbers are None: the kurtosis
        of equal weights, and everything but the count if a weight is not finite.
    """
    layers = {name: weight.detach() for name, weight in prunable_weights(network).items()}
    edges = np.linspace(*HISTOGRAM_RANGE, bins + 1)
    return {
        "edges": edges.tolist(),
        "all": _describe(list(layers.values()), edges),
        "layers": {name: _describe([weight], edges) for name, weight in layers.items()},
    }


def _describe(weights: list[Tensor], edges: np.ndarray[Any, Any]) -> dict[str, Any]:
    count = sum(weight.numel() for weight in weights)
    if not count or not all(bool(weight.isfinite().all()) for weight in weights):
        return {"count": count} | dict.fromkeys(("zeros", "mean", "std", "kurtosis", "quantiles", "histogram"))
    mean, std, kurtosis = _moments(weights, count)
    magnitudes = torch.cat([weight.abs().flatten().float().cpu() for weight in weights]).numpy()
    nonzero = magnitudes[magnitudes > 0].astype(np.float64)
    quantiles = np.quantile(magnitudes, QUANTILES)  # torch.quantile is limited to 2**24 numbers
    logarithms = np.clip(np.log10(nonzero), edges[0], edges[-1])
    return {
        "count": count,
        "zeros": count - len(nonzero),
        "mean": mean,
        "std": std,
        "kurtosis": kurtosis,
        "quantiles": {str(q): float(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
        "histogram": np.histogram(logarithms, edges)[0].tolist(),
    }


def _moments(weights: list[Tensor], count: int) -> tuple[float, float, float | None]:
    """Mean, standard deviation and excess kurtosis, of the weights as the whole population."""
    mean = sum(float(weight.double().sum()) for weight in weights) / count
    second = sum(float((weight.double() - mean).square().sum()) for weight in weights) / count
    fourth = sum(float((weight.double() - mean).pow(4).sum()) for weight in weights) / count
    return mean, second**0.5, fourth / second**2 - 3 if second**2 else None
