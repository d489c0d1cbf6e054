"""Rehearse a trial on a few images before its training: what would fail at its end fails at its beginning."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sgabench.errors import InputError
from sgabench.running.part import Part, first_of
from sgabench.running.patience import in_the_meantime
from sgabench.running.task import Task
from sgabench.running.trial import Alone, Emit, load_trained, run_trial
from sgabench.store.files import Folder
from sgabench.store.store import Record
from sgabench.suite.plan import CellPlan, TrialPlan
from sgabench.system.seeds import derive_seed
from sgabench.system.tracebacks import has_traceback, in_a_line
from sgabench.training.building import build_optimizer, load_data, seeded
from sgabench.training.data import Data
from sgabench.training.step import GradientStep

FEW = 16  # images
# Steps: a training of no more than these costs hardly more than its rehearsal.
SHORT = 8
# Appears in tracebacks of training steps: there a failure costs nothing, because trainings begin with one.
_AT_ONCE = re.compile(rf", in ({build_optimizer.__name__}|{GradientStep.passes.__name__}|step)$", re.MULTILINE)
_logger = logging.getLogger("sgabench")
_passed: set[str] = set()  # in this process: once for all seeds


def run_rehearsed(task: Task, emit: Emit, alone: Alone) -> None:
    """Run a trial, after a rehearsal if it has to be trained, or if a checkpoint is pruned more than once.

    A training that cannot be completed is not begun: it has failed. Failures in a step are left to the training itself,
    which begins with one. A pruner or probe that fails causes a warning; it may work on the trained network, and is
    tried there.

    Args:
        task, emit, alone: as for `run_trial`.
    """
    failed = rehearse(task) if task.trained is None else []
    for record in failed:
        at_once = not task.trial.trains or not has_traceback(record.error) or _AT_ONCE.search(record.error)
        if record.kind == "trial" and at_once:
            break
        if record.kind == "trial":
            part = first_of(task.trial, False)
            emit(part)
            emit(part.failed(record.environment, f"Before the training, on a few images:\n{record.error}"))
            return
        message = f"{task.trial.name}: {failure_of(record)}"
        again = "after the training" if task.trial.trains else "on all of them"
        _logger.warning("warning: %s (on a few images; it is tried again %s)", message, again)
    run_trial(task, emit, alone)


def failure_of(record: Record) -> str:
    """A failure in a rehearsal, in one line."""
    of = {"trial": "the training", "cell": f"pruner {record.labels.get('pruner')!r}"}
    what = of.get(record.kind, f"probe {record.labels.get('probe')!r}")
    return f"{what} fails: {in_a_line(record.error)}"


def rehearse(task: Task, *, short: bool = False) -> list[Record]:
    """Do everything that a trial does once, on a few images: step, save, load, measure, prune, fine-tune, probe.

    Args:
        task: the trial.
        short: rehearse short trainings, too.

    Returns:
        Records of failures; empty if the same was rehearsed before in this process.
    """
    same = json.dumps(_subject(task), sort_keys=True)
    if same in _passed:
        return []
    try:
        data = load_data(task.trial.dataset, task.data_dir, task.download, task.device)
    except Exception:  # the trial has a record for it
        return []
    recipe = task.trial.optimizer.settings["training"]
    if not short and not _is_long(task.trial, len(data.train)):
        return []
    failed = _attempt(task, data, min(FEW, recipe["batch_size"]))
    if any(record.kind == "trial" for record in failed) and recipe["batch_size"] > FEW:
        failed = _attempt(task, data, recipe["batch_size"])  # it may need a whole batch
    _passed.add(same)
    return failed


def _is_long(trial: TrialPlan, images: int) -> bool:
    """Whether work is lost if it fails late: steps of training or, for a checkpoint, the other cells."""
    recipe = trial.optimizer.settings["training"]
    if not trial.trains:
        return len(trial.cells) > 1
    steps: int = recipe["epochs"] * (images // recipe["batch_size"])
    return steps > SHORT


def _subject(task: Task) -> list[Any]:
    trial = task.trial
    cells = {cell.pruner.label: cell for cell in trial.cells}
    probes = {plan.probe.label: plan.probe for plan in (*trial.probes, *(p for c in trial.cells for p in c.probes))}
    choices = [trial.dataset, trial.model, trial.optimizer, *(cell.pruner for cell in cells.values()), *probes.values()]
    return [task.device, trial.trains, *(choice.identity() for choice in choices)]


def _attempt(task: Task, data: Data, images: int) -> list[Record]:
    failed: list[Record] = []
    done: list[Record] = []
    at = ["the training"]

    def keep(event: object) -> None:
        if isinstance(event, Part):
            at[0] = event.what
        if isinstance(event, Record):
            (failed if event.status == "failed" else done).append(event)

    def patience() -> None:
        yet = "its training has" if task.trial.trains else "all of them have"
        _logger.warning("%s: %s takes long on a few images; %s not started yet", task.trial.name, at[0], yet)

    with (
        in_the_meantime(patience),
        tempfile.TemporaryDirectory(prefix="sgabench-rehearsal-") as folder,
        contextlib.suppress(InputError),
    ):
        # Failures to write there are suppressed: they say nothing about the trial.
        (Path(folder) / "weights").mkdir()
        rehearsed = replace(
            task,
            trial=_shortened(task.trial, images),
            measurement=task.measurement.model_copy(update={"throughput": False}),
            files=Folder(Path(folder)),
            snapshot_seconds=0.0,
        )
        train, tested = data.train.part(slice(images)), slice(FEW)
        few = replace(data, train=train, test=data.test.part(tested), validation=data.validation.part(tested))
        with seeded(derive_seed(task.trial.seed, "rehearsal"), task.device):
            run_trial(rehearsed, keep, lambda: contextlib.nullcontext(False), few)
            for record in done:
                if record.kind == "trial" and record.status == "done":
                    load_trained(rehearsed, record, few, keep)
    return failed


def _shortened(trial: TrialPlan, images: int) -> TrialPlan:
    """The trial with steps of a few images, for one epoch, and a cell per pruner."""
    settings = trial.optimizer.settings
    recipe = {**settings["training"], "epochs": 1, "batch_size": images, "warmup_epochs": 0.0}
    optimizer = replace(trial.optimizer, settings={**settings, "training": recipe})
    by_pruner: dict[str, list[CellPlan]] = {}
    for cell in trial.cells:
        by_pruner.setdefault(cell.pruner.label, []).append(cell)
    return replace(trial, optimizer=optimizer, cells=tuple(map(_one_of, by_pruner.values())))


def _one_of(cells: Sequence[CellPlan]) -> CellPlan:
    """The middle cell, fine-tuned for one epoch."""
    cell = cells[len(cells) // 2]
    if not cell.pruner.settings["finetune"]:
        return cell._replace(stored=False)
    settings = {**cell.pruner.settings, "finetune": {**cell.pruner.settings["finetune"], "epochs": 1}}
    return cell._replace(stored=False, pruner=replace(cell.pruner, settings=settings))
