"""In which order trials are handed out where several run at once: the longest first, so that none ends long after."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from sgabench.running.options import Options
from sgabench.suite.choices import Choice
from sgabench.suite.plan import TrialPlan
from sgabench.suite.work import BACKWARDS, work_of


def longest_first(left: Sequence[TrialPlan], trained: Collection[str], options: Options) -> list[TrialPlan]:
    """Trials by what they are expected to compute: multiply-adds of an image times the images that they see.

    Those that are expected to take equally long, as all seeds do, stay in the order of the plan: one after the other on
    the same data set.

    Args:
        left: each with only what is left to do.
        trained: keys of those whose network is stored.
        options: where the data is.
    """
    stored = dict.fromkeys(trained, "done")
    weights = _multiply_adds(left, options)

    def length(trial: TrialPlan) -> float:
        work = work_of([trial], stored)
        passes = (1 + BACKWARDS) * (work.train_images or 0) + (work.test_images or 0)
        return weights[_pair(trial)] * (passes or work.trainings + work.prunings)

    return sorted(left, key=length, reverse=True)


def _pair(trial: TrialPlan) -> tuple[str, str]:
    return _name(trial.dataset), _name(trial.model)


def _name(choice: Choice) -> str:
    return f"{choice.label} {sorted(choice.identity().items())}"


def _multiply_adds(left: Sequence[TrialPlan], options: Options) -> dict[tuple[str, str], float]:
    """Of one image, for each data set with each model; nothing is built if there is nothing to compare."""
    pairs = {_pair(trial): trial for trial in left}
    if len(pairs) == 1:
        return dict.fromkeys(pairs, 1.0)
    return {pair: _of_an_image(trial, options) for pair, trial in pairs.items()}


def _of_an_image(trial: TrialPlan, options: Options) -> float:
    import torch

    from sgabench.models.operations import count_operations
    from sgabench.training.building import initial_network, load_data

    try:
        spec = load_data(trial.dataset, options.data, options.download, "cpu").spec
        network = initial_network(trial.model, spec, 0)
        return float(count_operations(network, torch.zeros(1, spec.channels, spec.height, spec.width)).total)
    except Exception:  # a plugin's, which its trials will tell; what is not known may be long
        return math.inf
