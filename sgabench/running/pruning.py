"""Prune a copy of the trained network as a cell asks, with what follows: fine-tuning, rewinding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter
from torch import Tensor, nn

from sgabench.measuring.sweep import Sweep
from sgabench.models.statistics import reestimate_batch_norm
from sgabench.plugins import PruningContext
from sgabench.suite.plan import CellPlan
from sgabench.suite.schedules import Schedule
from sgabench.suite.tables import Finetuning
from sgabench.training.building import starting_network, train_network
from sgabench.training.distillation import Teacher
from sgabench.training.finetuning import After, finetune
from sgabench.training.schedules import follow

_SCHEDULES: TypeAdapter[Any] = TypeAdapter(Schedule)


class Pruning:
    """Makes the pruned networks of a trial's cells.

    Args:
        sweep: of the trained network.
        after: for trainings of its pruned copies; cells say what is excluded.
    """

    def __init__(self, sweep: Sweep, after: After) -> None:
        self._sweep = sweep
        self._after = after
        self._early: dict[int, Mapping[str, Tensor]] = {}

    def excluded(self, cell: CellPlan) -> frozenset[str]:
        """Names of the modules that the cell's pruner does not prune."""
        settings = cell.pruner.settings
        return self._sweep.excluded(settings["include_input"], settings["include_classifier"])

    def network(self, cell: CellPlan, context: PruningContext) -> tuple[nn.Module, dict[str, Any]]:
        """The pruned network, in evaluation mode, and the history of its trainings, epoch by epoch.

        Args:
            context: of the cell, with its excluded modules.
        """
        settings, after = cell.pruner.settings, replace(self._after, excluded=context.excluded)
        detail: dict[str, Any] = {}
        if settings.get("schedule"):
            network = self._sweep.copied()
            prune = self._sweep.pruning(cell.pruner.name, cell.pruner.options, context.excluded)
            schedule = _SCHEDULES.validate_python(settings["schedule"])
            detail["schedule"] = follow(schedule, network, cell.ratio, prune, after, self._weights_after)
            network.eval()
        else:
            network = self._sweep.prune(cell.pruner.name, cell.pruner.options, cell.ratio, context.excluded)
        if settings["reestimate_bn"]:
            reestimate_batch_norm(network, context.batches())
        if settings["finetune"]:
            asked = Finetuning.model_validate(settings["finetune"])
            teacher = None
            if asked.distill is not None:
                teacher = Teacher(self._sweep.dense, asked.distill.weight, asked.distill.temperature)
            detail["finetuning"] = finetune(network, after, asked.epochs, asked.lr, teacher=teacher)
        return network, detail

    def _weights_after(self, epochs: int) -> Mapping[str, Tensor]:
        """The weights after some epochs of the trial's training, which is repeated up to there from its seed."""
        if epochs not in self._early:
            after = self._after
            network = starting_network(after.trial, after.data)
            if epochs:
                part = range(epochs)
                train_network(network, after.trial, after.data, after.precision, after.on_progress, epochs=part)
            self._early = {epochs: network.state_dict()}
        return self._early[epochs]
