"""Who is told how a run goes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from sgabench.store.store import Record
from sgabench.suite.plan import TrialPlan

if TYPE_CHECKING:
    from sgabench.training.progress import Progress


class Listener(Protocol):
    """Is told how a run goes."""

    def started(self, left: Sequence[TrialPlan], trained: Collection[str], device: str, jobs: int) -> None:
        """Something is left to do: these trials, each with only that.

        Args:
            left: in their order.
            trained: keys of trials whose network is stored.
            device: ``cpu`` or ``cuda``, and the cluster, in words, if there is one.
            jobs: trials at the same time.
        """

    def placed(self, worker: int, trial: TrialPlan, where: str) -> None:
        """A trial begins on a machine of several."""

    def progressed(self, worker: int, trial: TrialPlan, progress: Progress) -> None:
        """A training goes on."""

    def stored(self, worker: int, trial: TrialPlan, record: Record) -> None:
        """A record is on disk."""

    def finished(self, worker: int, trial: TrialPlan) -> None:
        """A trial is through, whatever came of it."""

    def elsewhere(self, trial: TrialPlan) -> None:
        """Another run has done what was left of a trial."""

    def waiting(self, trials: int) -> None:
        """Nothing is left but what other runs have claimed: so many trials; told again and again."""


class Silent:
    """A listener that says nothing."""

    def started(self, left: Sequence[TrialPlan], trained: Collection[str], device: str, jobs: int) -> None:
        """Say nothing."""

    def placed(self, worker: int, trial: TrialPlan, where: str) -> None:
        """Say nothing."""

    def progressed(self, worker: int, trial: TrialPlan, progress: Progress) -> None:
        """Say nothing."""

    def stored(self, worker: int, trial: TrialPlan, record: Record) -> None:
        """Say nothing."""

    def finished(self, worker: int, trial: TrialPlan) -> None:
        """Say nothing."""

    def elsewhere(self, trial: TrialPlan) -> None:
        """Say nothing."""

    def waiting(self, trials: int) -> None:
        """Say nothing."""
