"""Intervals of means, and the scale that accuracies are compared on: pure functions on arrays, seeds last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

ALPHA = 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation (n - 1) and confidence limits of the mean, an array each."""

    mean: Floats
    std: Floats
    low: Floats
    high: Floats


def log_odds(accuracy: ArrayLike, images: ArrayLike) -> Floats:
    """Log-odds of an accuracy in [0, 1], half a count added to right and wrong answers.

    Source: Haldane, "The estimation and significance of the logarithm of a ratio of frequencies", 1956.
    """
    right = np.asarray(accuracy, dtype=float) * images
    return np.asarray(np.log((right + 0.5) / (np.asarray(images) - right + 0.5)))


def summarize_accuracy(values: ArrayLike, images: ArrayLike, alpha: float = ALPHA) -> Summary:
    """Describe a mean accuracy over seeds.

    The interval is Student's t on the scale of log-odds, its standard error by the delta method, so it lies inside
    (0, 1). The standard deviation is taken to be at least the binomial one of so many test images.

    Args:
        values: shape (rows, n), n of at least 1, in [0, 1].
        images: how many test images they count, shape (rows,).
        alpha: 1 - confidence.

    Returns:
        Shape (rows,) each; with one seed standard deviation and limits are NaN.
    """
    mean, std, n = _moments(values)
    count = np.asarray(images, dtype=float)
    middle = np.clip(mean, 0.5 / count, 1 - 0.5 / count)
    error = np.sqrt(np.maximum(std**2, middle * (1 - middle) / count) / n)
    half = special.stdtrit(n - 1, 1 - alpha / 2) * error / (middle * (1 - middle))
    center = special.logit(middle)
    return Summary(mean, std, special.expit(center - half), special.expit(center + half))


def summarize(values: ArrayLike, alpha: float = ALPHA) -> Summary:
    """Describe a mean of numbers other than accuracies: Student's t.

    Args:
        values: shape (rows, n), n of at least 1, finite.
        alpha: 1 - confidence.

    Returns:
        Shape (rows,) each; with one seed standard deviation and limits are NaN.
    """
    mean, std, n = _moments(values)
    half = special.stdtrit(n - 1, 1 - alpha / 2) * std / np.sqrt(n)
    return Summary(mean, std, mean - half, mean + half)


def _moments(values: ArrayLike) -> tuple[Floats, Floats, int]:
    x = np.asarray(values, dtype=float)
    n = x.shape[1]
    return x.mean(1), x.std(1, ddof=1) if n > 1 else np.full(len(x), np.nan), n


def exact_share(successes: int, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Confidence limits of a share, e.g. of seeds that trained (Clopper and Pearson 1934)."""
    low = special.betaincinv(successes, n - successes + 1, alpha / 2) if successes else 0.0
    high = special.betaincinv(successes + 1, n - successes, 1 - alpha / 2) if successes < n else 1.0
    return float(low), float(high)
