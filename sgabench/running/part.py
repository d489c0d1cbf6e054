"""What a trial consists of: its training, cells and probes, each of which can fail by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sgabench.store.store import Kind, Record, Status
from sgabench.suite.plan import CellPlan, ProbePlan, TrialPlan

MAX_ERROR = 100_000  # characters


@dataclass(frozen=True)
class Part:
    """A training, a cell or a probe. As an event: it begins; if its worker dies before its record, it has failed.

    Attributes:
        what: its description, in words.
        kind: as in `Record`, like the other fields.
    """

    what: str
    kind: Kind
    key: str
    parent: str | None
    labels: Mapping[str, Any]
    description: Mapping[str, Any]

    def failed(self, environment: Mapping[str, Any], error: str, status: Status = "failed") -> Record:
        """The record of its failure; of a very long message, the beginning and the end."""
        if len(error) > MAX_ERROR:
            error = f"{error[: MAX_ERROR // 2]}\n...\n{error[-MAX_ERROR // 2 :]}"
        return Record(self.key, self.kind, self.parent, status, self.labels, self.description, environment, error=error)


def of_training(trial: TrialPlan) -> Part:
    """A trial's training, with the measurements of the trained network."""
    return Part("the training", "trial", trial.key, None, trial.labels(), trial.description())


def of_cell(trial: TrialPlan, cell: CellPlan) -> Part:
    """A cell; if it is stored, the first of its probes, so that the record of the cell stays whatever happens."""
    if cell.stored:
        return of_probe(trial, cell.key, cell.probes[0])
    return Part(f"cell {cell.name}", "cell", cell.key, trial.key, trial.labels(cell), cell.description())


def of_probe(trial: TrialPlan, subject: str, probe: ProbePlan) -> Part:
    """A probe; its subject is the key of the trial or cell whose network it looks at."""
    labels = {**trial.labels(), "probe": probe.probe.label}
    description = {**probe.probe.identity(), "subject": subject}
    return Part(f"probe {probe.probe.label}", "probe", probe.key, subject, labels, description)


def first_of(trial: TrialPlan, trained: bool) -> Part:
    """The first part of a trial.

    If it is trained already, that is a probe or a cell: if its network cannot be loaded, that part fails, and the
    record of the training stays.

    Args:
        trial: with only what is left to do; not empty.
        trained: whether the record of its training is stored.
    """
    if not trained:
        return of_training(trial)
    return of_probe(trial, trial.key, trial.probes[0]) if trial.probes else of_cell(trial, trial.cells[0])
