"""Learning rates over the steps of a training."""

from __future__ import annotations

import math
from collections.abc import Callable

from sgabench.suite.tables import Recipe


def learning_rate_factor(recipe: Recipe, steps_per_epoch: int) -> Callable[[int], float]:
    """The schedule: a function from the step (counted from 0) to the factor of the base learning rate.

    ``cosine`` and ``linear`` fall to zero after the warm-up; ``wsd`` stays and falls linearly to zero at the end
    (warm-up, stable, decay: Hu et al. 2024, arXiv 2404.06395); ``one-cycle`` rises from 1/25 to 1 over the first 30 %
    and falls to 1e-4, along half cosines (Smith & Topin, arXiv 1708.07120, as in torch's OneCycleLR).
    """
    total = recipe.epochs * steps_per_epoch
    warmup = round(recipe.warmup_epochs * steps_per_epoch)

    def half_cosine(start: float, end: float, fraction: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * min(fraction, 1.0))) / 2

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, total - warmup)
        if recipe.schedule == "cosine":
            return half_cosine(1, 0, done)
        if recipe.schedule == "linear":
            return 1 - min(done, 1.0)
        if recipe.schedule == "wsd":
            return min(1.0, (1 - min(done, 1.0)) / recipe.cooldown)
        if recipe.schedule == "step":
            return math.prod(recipe.step_factor for milestone in recipe.step_milestones if step >= milestone * total)
        if recipe.schedule == "one-cycle":
            return half_cosine(1 / 25, 1, done / 0.3) if done < 0.3 else half_cosine(1, 1e-4, (done - 0.3) / 0.7)
        return 1.0

    return factor
