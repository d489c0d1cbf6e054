"""Check before a trial that plugins and declared files are still those that its keys were made of."""

from __future__ import annotations

from pathlib import Path

from sgabench.errors import InputError
from sgabench.plugins.registry import SECTIONS
from sgabench.suite.checkpoints import NO_OPTIMIZER
from sgabench.suite.contents import with_content
from sgabench.suite.plan import TrialPlan


def check_unchanged(trial: TrialPlan, data_dir: Path) -> None:
    """Compare plugins, and the files that they declare, with those of the plan: workers read the files again.

    The content of data sets is not compared again: that may be many files.

    Raises:
        InputError: something has changed during the run.
    """
    of_cells = [plan.probe for cell in trial.cells for plan in cell.probes]
    used = [("datasets", trial.dataset), ("models", trial.model)]
    used += [("optimizers", trial.optimizer)] if trial.optimizer.name != NO_OPTIMIZER else []
    used += [("pruners", cell.pruner) for cell in trial.cells]
    used += [("probes", probe) for probe in (*(plan.probe for plan in trial.probes), *of_cells)]
    for section, choice in {id(choice): (section, choice) for section, choice in used}.values():
        registry = SECTIONS[section]
        if registry[choice.name].origin.code != choice.code:
            raise InputError(f"{registry.kind} {choice.name!r}: the plugin was changed during the run; run again")
        if section != "datasets" and with_content(registry.kind, choice, data_dir) != choice:
            raise InputError(f"{registry.kind} {choice.name!r}: what it reads was changed during the run; run again")
