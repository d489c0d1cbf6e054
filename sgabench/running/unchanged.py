"""A trial is run by the code, and on the files, that its keys were made of."""

from __future__ import annotations

from pathlib import Path

from sgabench.errors import InputError
from sgabench.plugins.registry import SECTIONS
from sgabench.suite.checkpoints import NO_OPTIMIZER
from sgabench.suite.contents import with_content
from sgabench.suite.plan import TrialPlan


def check_unchanged(trial: TrialPlan, data_dir: Path) -> None:
    """Compare plugins, and what they declare to read, with what the plan found: a worker reads their files anew.

    The content of a data set is not looked at again, which may be many files.

    Raises:
        InputError: something was changed during the run.
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
