"""What a gate looked at, and what came of it."""

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
        name: dataset/model/optimizer, and /pruner of a curve (the mean over its ratios), and /ratio of a cell.
        rule: how it was judged, in a few words.
        status: what came of it.
        was, now: the baseline and what is measured, if there is such a thing.
        difference, low, high: now - was, in the metric's unit, and its limits: the lower one at 95 %, the upper one
            corrected for all of the gate.
        p: of a statistical rule, corrected likewise.
        margin: the tolerance, in the metric's unit.
        allowance: the loss that must be ruled out, in the metric's unit.
        more_seeds: that would decide a difference like the observed one, with an even chance and with nine in ten.
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
    """What a gate found.

    Attributes:
        suite: its name.
        items: everything that was looked at.
        gaps: what could not be compared though it should have been, a line each.
        notes: what a reader should know, a line each.
        accepts_undecided: whether the suite lets pass what is not shown either way.
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
        """How many items were judged."""
        return len(self.items) - len(self.having("skipped"))

    @property
    def exit_code(self) -> int:
        """0: nothing is shown worse, and that nothing is, is shown; 1: something is worse; 3: neither, or a gap."""
        if self.having("regressed"):
            return 1
        return 3 if self.gaps or (self.having("undecided") and not self.accepts_undecided) else 0

    @property
    def largest_drops(self) -> list[Item]:
        """The networks whose mean accuracy dropped most, whatever the rules say of it; a few, the largest first."""
        dropped = [
            (item.difference, item.name, item)
            for item in self.items
            if item.metric in ACCURACIES and item.difference is not None and item.difference < 0
            if not item.rule.startswith("statistical")  # every network is judged by itself, too
        ]
        return [item for *_, item in sorted(dropped, key=lambda entry: entry[:2])[:DROPS]]
