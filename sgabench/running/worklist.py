"""The work list: hands out one trial at a time, claimed so that no other run takes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sgabench.running.listening import Listener
from sgabench.running.task import Task
from sgabench.store.locks import Claims
from sgabench.store.store import Record, Store
from sgabench.suite.plan import TrialPlan, keys_of_trial, left_of

if TYPE_CHECKING:
    from sgabench.running.order import Expected


class WorkList:
    """The trials of a run that nobody has done yet.

    Several runs may have the same trials on their lists. A trial is claimed before it is handed out, and
    then the store is asked again what is left of it: another run may have been faster. What has failed
    since this run began, here or elsewhere, counts as tried and is not handed out again.

    Args:
        left: what was left when the run began, in order.
        failed_before: when each failure that the store had at that time was recorded, by key.
        store: the store.
        claims: of this run.
        task: makes a task of what is left of a trial and the record of its training.
        listener: learns about other runs.
    """

    def __init__(
        self,
        left: Sequence[TrialPlan],
        failed_before: Mapping[str, float],
        store: Store,
        claims: Claims,
        task: Callable[[TrialPlan, Record | None], Task],
        listener: Listener,
    ) -> None:
        self._open = deque(left)
        self._failed_before = failed_before
        self._store = store
        self._claims = claims
        self._task = task
        self._listener = listener
        self._expected: Expected | None = None

    @property
    def open(self) -> int:
        """The number of trials neither handed out nor done by another run."""
        return len(self._open)

    def put_in_order(self, expected: Expected) -> None:
        """From now on, hand out first the trials that are expected to take longest."""
        self._expected = expected
        self._open = deque(expected.longest_first(self._open))

    def took(self, task: Task, seconds: float) -> None:
        """A trial was done without interruption: similar ones may take as long."""
        if self._expected is not None and self._expected.took(task.trial, seconds):
            self._open = deque(self._expected.longest_first(self._open))

    def take(self) -> Task | None:
        """Claim and hand out a trial; None: other runs have claimed all open ones, or there are none."""
        for _ in range(len(self._open)):
            trial = self._open.popleft()
            if not self._claims.take(trial.key):
                self._open.append(trial)  # tried again after all others
                continue
            task = self._left_of(trial)
            if task is not None:
                return task
            self._claims.release(trial.key)
            self._listener.elsewhere(trial)
        if self._open:
            self._listener.waiting(len(self._open))
        return None

    def rest(self, task: Task) -> Task | None:
        """What is left of a trial that was handed out and is still claimed; None: nothing."""
        return self._left_of(task.trial)

    def release(self, task: Task) -> None:
        """Give back the claim of a trial that was handed out."""
        self._claims.release(task.trial.key)

    def claim(self, task: Task) -> int:
        """File descriptor of a trial's claim, to share it with the process that runs the trial."""
        return self._claims.descriptor(task.trial.key)

    def _left_of(self, trial: TrialPlan) -> Task | None:
        found = self._store.outcomes(keys_of_trial(trial))
        stored = {key: status for key, (status, _) in found.items()}
        tried = {
            key for key, (status, at) in found.items() if status == "failed" and self._failed_before.get(key) != at
        }
        left = left_of(trial, stored, tried)
        if left is None:
            return None
        return self._task(left, self._store.get(trial.key) if stored.get(trial.key) == "done" else None)
