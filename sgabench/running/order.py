"""The order of trials where several run at once: the longest first, so that none ends long after the others."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from sgabench.running.options import Options
from sgabench.suite.choices import Choice
from sgabench.suite.plan import TrialPlan
from sgabench.suite.work import BACKWARDS, work_of


class Expected:
    """How long trials are expected to take, from their operations and the time that similar trials have taken.

    Their operations are the multiply-adds of an image times the number of images. Trials of the same data set, model
    and optimizer, whatever its options, take time in proportion to that; those of which none has finished yet are
    expected to be as fast as the average. Trials that are expected to take equally long, as all seeds do, stay in the
    order of the plan: one after the other on the same data set.

    Args:
        left: each with only what is left to do.
        trained: keys of those whose network is stored.
        options: has the data folder.
    """

    def __init__(self, left: Sequence[TrialPlan], trained: Collection[str], options: Options) -> None:
        stored = dict.fromkeys(trained, "done")
        weights = _multiply_adds(left, options)

        def length(trial: TrialPlan) -> float:
            work = work_of([trial], stored)
            passes = (1 + BACKWARDS) * (work.train_images or 0) + (work.test_images or 0)
            return weights[_pair(trial)] * (passes or work.trainings + work.prunings)

        self._kinds = {trial.key: (*_pair(trial), trial.optimizer.name, trial.key in stored) for trial in left}
        self._lengths = {trial.key: length(trial) for trial in left}
        self._took: dict[object, tuple[float, float, int]] = {}  # total seconds, length and number of each kind

    def took(self, trial: TrialPlan, seconds: float) -> bool:
        """Learn from a trial that has ended; returns whether the rest should be put in order again.

        That is after 1, 3, 7, 15, ... trials of a kind: sorting a hundred thousand takes longer than storing a record.
        """
        length = self._lengths[trial.key]
        if not math.isfinite(length):
            return False
        for kind in (None, self._kinds[trial.key]):
            before, of, number = self._took.get(kind, (0.0, 0.0, 0))
            self._took[kind] = before + seconds, of + length, number + 1
        return (number + 1) & number == 0

    def longest_first(self, left: Iterable[TrialPlan]) -> list[TrialPlan]:
        """The same trials, the longest first."""
        return sorted(left, key=self._seconds, reverse=True)

    def _seconds(self, trial: TrialPlan) -> float:
        seconds, length, _ = self._took.get(self._kinds[trial.key]) or self._took.get(None) or (1.0, 1.0, 1)
        return self._lengths[trial.key] * seconds / length


def _pair(trial: TrialPlan) -> tuple[str, str]:
    return _name(trial.dataset), _name(trial.model)


def _name(choice: Choice) -> str:
    return f"{choice.label} {sorted(choice.identity().items())}"


def _multiply_adds(left: Sequence[TrialPlan], options: Options) -> dict[tuple[str, str], float]:
    """Multiply-adds of one image for each data set and model; nothing is built if there is nothing to compare."""
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
    except Exception:  # a plugin's, which its trials will report; an unknown length may be long
        return math.inf
