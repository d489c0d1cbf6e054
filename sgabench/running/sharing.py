"""How many trainings should share a device: by trial, the smallest number that is nearly the fastest."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from sgabench.running.loops import Died, Workload, trials_at_once
from sgabench.running.options import Options
from sgabench.suite.plan import TrialPlan
from sgabench.suite.tables import Recipe
from sgabench.system.environment import describe_environment
from sgabench.training.building import load_data, precision_on

# Twice as many must be this much faster in total: each of them gets slower and needs memory of its own.
WORTHWHILE_GAIN = 1.1
_SECONDS = 2.0

_logger = logging.getLogger("sgabench")


def workloads(trials: Iterable[TrialPlan], options: Options) -> list[Workload]:
    """The workloads of trials: each model on each shape of images with each recipe once."""
    found: dict[str, Workload] = {}
    for trial in (trial for trial in trials if trial.trains):
        recipe = Recipe.model_validate(trial.optimizer.settings["training"])
        identity = json.dumps([trial.dataset.identity(), trial.model.identity(), recipe.effective()], sort_keys=True)
        if identity not in found:
            spec = load_data(trial.dataset, options.data, options.download, "cpu").spec
            found[identity] = Workload(trial.model, spec, recipe, options.plugins)
    return list(found.values())


def best_number(work: Workload, device: str, limit: int) -> int:
    """Train 1, 2, 4, ... at once for some seconds each, as long as their total speed increases.

    Only half the memory is used up: a trial evaluates, prunes and measures, too.

    Args:
        work: what is trained.
        device: ``cpu`` or ``cuda``.
        limit: the largest number to try.
    """
    precision = precision_on(work.recipe, describe_environment(device, 1))
    best, most = 1, 0.0
    number = 1
    while number <= limit:
        speed = _speed(number, work, device, precision)
        _logger.info("%d trainings of %s at once: %.0f images/s", number, work.model.label, speed)
        if speed <= WORTHWHILE_GAIN * most:
            break
        best, most = number, speed
        number *= 2
    return best


def _speed(number: int, work: Workload, device: str, precision: str) -> float:
    """Total images/s of that many; 0 if they do not fit."""
    try:
        loops = trials_at_once(number, work, device, precision)
        try:
            return loops.block(_SECONDS) if _leaves_half(device) else 0.0
        finally:
            loops.close()
    except Died:
        return 0.0


def _leaves_half(device: str) -> bool:
    if device != "cuda":
        return True
    import torch

    free, total = torch.cuda.mem_get_info()
    return free >= total / 2
