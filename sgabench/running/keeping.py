"""Prune the stored networks of trials again, and write the results to files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sgabench.errors import InputError, suggestion
from sgabench.running.kept import Kept, path_of
from sgabench.running.options import Options
from sgabench.running.task import Task
from sgabench.running.trial import run_trial
from sgabench.store.files import Folder
from sgabench.store.store import Record, Store
from sgabench.suite.plan import CellPlan, Plan, TrialPlan
from sgabench.suite.tables import Measurement
from sgabench.system.environment import choose_device, cores


def selected(plan: Plan, pattern: str) -> list[tuple[TrialPlan, CellPlan]]:
    """The cells of a plan whose name matches a glob.

    Raises:
        InputError: none matches.
    """
    cells = {f"{trial.name}/{cell.name}": (trial, cell) for trial, cell in plan.cells()}
    found = [both for name, both in cells.items() if fnmatchcase(name, pattern)]
    if not found:
        raise InputError(
            f"--only {pattern}: matches no network (dataset/model/optimizer/seed/pruner/ratio)"
            f"{suggestion(pattern, cells)}"
        )
    return found


def keep(plan: Plan, pattern: str, kept: Kept, options: Options, on_file: Callable[[Path, Record], None]) -> None:
    """Prune stored networks as a plan's cells ask, and write the pruned networks.

    Args:
        plan: of the suite.
        pattern: glob over names of cells.
        kept: where to write them.
        options: folders and device.
        on_file: called with each file and the measurements of its network.

    Raises:
        InputError: nothing matches; a training is not stored; a file exists; a cell fails.
    """
    cells = selected(plan, pattern)
    for trial, cell in cells:
        if (there := path_of(kept.folder, trial, cell).with_suffix(".json")).exists():
            raise InputError(f"{there}: already exists; name another folder")
    with Store(options.results) as store:
        found = store.records("trial", sorted({trial.key for trial, _ in cells}))
        trained = {record.key: record for record in found if record.status == "done"}
    for trial, _ in cells:
        if trial.key not in trained or not store.weights_path(trial.key).is_file():
            raise InputError(f"{trial.name}: not trained yet; run the suite first: sgabench run {plan.suite.source}")
    kept.folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(options.device)
    for key in dict.fromkeys(trial.key for trial, _ in cells):
        trial = next(trial for trial, _ in cells if trial.key == key)
        asked = tuple(cell._replace(probes=(), stored=False) for other, cell in cells if other.key == key)
        task = Task(
            replace(trial, cells=asked, probes=()),
            trained[key],
            Measurement(throughput=False),
            Folder(options.results),
            options.data,
            options.download,
            device,
            cores(),
            kept=kept,
        )
        for record in _records(task):
            cell = next(cell for cell in asked if cell.key == record.key)
            on_file(path_of(kept.folder, trial, cell), record)


def _records(task: Task) -> Sequence[Record]:
    events: list[Any] = []
    run_trial(task, events.append, lambda: contextlib.nullcontext(True))
    records = [event for event in events if isinstance(event, Record) and event.kind == "cell"]
    for record in records:
        if record.status != "done":
            last = (record.error or "").strip().splitlines()[-1:]
            raise InputError(f"{task.trial.name}: {''.join(last)}")
    return records
