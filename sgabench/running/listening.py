"""Listeners: the progress of a run as it is reported to a display."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from sgabench.store.store import Record
from sgabench.suite.plan import TrialPlan

if TYPE_CHECKING:
    from sgabench.training.progress import Progress


class Listener:
    """Receives the progress of a run; its methods do nothing."""

    def started(self, left: Sequence[TrialPlan], trained: Collection[str], device: str, jobs: int) -> None:
        """There is something to do.

        Args:
            left: the trials, in order, each with only what is left to do.
            trained: keys of trials whose network is stored.
            device: ``cpu`` or ``cuda``, and a description of the cluster, if there is one.
            jobs: trials at the same time.
        """

    def placed(self, worker: int, trial: TrialPlan, where: str) -> None:
        """A trial begins, where there are several machines."""

    def progressed(self, worker: int, trial: TrialPlan, progress: Progress) -> None:
        """A training goes on."""

    def stored(self, worker: int, trial: TrialPlan, record: Record) -> None:
        """A record is on disk."""

    def finished(self, worker: int, trial: TrialPlan) -> None:
        """A trial has ended, successfully or not."""

    def elsewhere(self, trial: TrialPlan) -> None:
        """Another run has done what was left of a trial."""

    def waiting(self, trials: int) -> None:
        """Only trials that other runs have claimed are left: so many of them. Called repeatedly."""
