"""The checks of a gate and their outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgabench.gate.baseline import Spread
from sgabench.suite.rules import ACCURACIES

Status = Literal["regressed", "undecided", "improved", "held", "unchanged", "skipped"]
DROPS = 3


@dataclass(frozen=True)
class Item:
    """One rule on one metric of one trial, curve or cell.

    Attributes:
        metric: a key of `METRICS`, or ``status`` for a network that could not be trained, pruned or measured.
        name: dataset/model/optimizer, with /pruner for a curve (the mean over its ratios), and /ratio for a cell.
        rule: how it was judged, in a few words.
        status: the outcome.
        was, now: the baseline and the present measurement, if they exist.
        difference, low, high: now - was, in the metric's unit, and its limits: the lower one at 95 %, the upper one
            corrected for all of the gate.
        p: of a statistical rule, corrected likewise.
        margin: the tolerance, in the metric's unit.
        allowance: the loss that must be ruled out, in the metric's unit.
        more_seeds: that would decide a difference like the observed one, with probability 1/2 and 9/10.
        note: what a reader must know beside the numbers.
    """

    metric: str
    name: str
    rule: str
    status: Status
    was: Spread | None = None
    now: Spread | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    margin: float | None = None
    allowance: float | None = None
    more_seeds: tuple[int, int] | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """The metric, and the rule where a metric has several."""
        named = self.rule.startswith(("floor", "cap", "collapse"))
        return f"{self.metric} {self.rule}" if named else self.metric


@dataclass(frozen=True)
class Outcome:
    """The outcome of a gate.

    Attributes:
        suite: its name.
        items: everything that was checked.
        gaps: what should have been compared but could not, a line each.
        notes: what a reader should know, a line each.
        accepts_undecided: whether the suite accepts what is shown neither way.
    """

    suite: str
    items: tuple[Item, ...]
    gaps: tuple[str, ...]
    notes: tuple[str, ...]
    accepts_undecided: bool = False

    def having(self, *statuses: Status) -> list[Item]:
        """The items with one of these statuses."""
        return [item for item in self.items if item.status in statuses]

    @property
    def compared(self) -> int:
        """The number of items that were judged."""
        return len(self.items) - len(self.having("skipped"))

    @property
    def exit_code(self) -> int:
        """0: shown that nothing is worse; 1: something is worse; 3: neither is shown, or there is a gap."""
        if self.having("regressed"):
            return 1
        return 3 if self.gaps or (self.having("undecided") and not self.accepts_undecided) else 0

    @property
    def largest_drops(self) -> list[Item]:
        """The few networks whose mean accuracy dropped most, whatever the rules, the largest drop first."""
        dropped = [
            (item.difference, item.name, item)
            for item in self.items
            if item.metric in ACCURACIES and item.difference is not None and item.difference < 0
            if not item.rule.startswith("statistical")  # every network is judged by itself, too
        ]
        return [item for *_, item in sorted(dropped, key=lambda entry: entry[:2])[:DROPS]]
