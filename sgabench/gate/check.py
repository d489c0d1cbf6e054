"""Compare what was measured with a baseline, rule by rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sgabench.errors import InputError
from sgabench.evidence.statistics import ALPHA, holm, one_sided_difference
from sgabench.gate.baseline import Baseline, Group, Spread
from sgabench.gate.differences import (
    environment_differences,
    fewer_seeds,
    new_groups,
    new_metrics,
    one_device,
    unknown_groups,
    unmeasured,
)
from sgabench.suite.rules import METRICS, ONE_SEED_TOLERANCE, GateTable, parse_floor

Status = Literal["regressed", "improved", "held", "unchanged", "skipped"]


@dataclass(frozen=True)
class Item:
    """One rule on one metric of one trial or cell.

    Attributes:
        metric: a key of `METRICS`, or ``status`` for a network that could not be trained, pruned or measured.
        name: dataset/model/optimizer, and /pruner/ratio of a cell.
        rule: how it was judged, in a few words.
        status: what came of it.
        was, now: the baseline and what is measured, if there is such a thing.
        difference, low, high: now - was, in the metric's unit; limits of 95 % confidence, where there is spread.
        p: of a statistical rule, corrected for all of them in the gate.
        margin: the tolerance, in the metric's unit.
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
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a gate found.

    Attributes:
        suite: its name.
        items: everything that was looked at.
        gaps: what could not be compared though it should have been, a line each.
        notes: what a reader should know, a line each.
    """

    suite: str
    items: tuple[Item, ...]
    gaps: tuple[str, ...]
    notes: tuple[str, ...]

    def having(self, *statuses: Status) -> list[Item]:
        """The items with one of these statuses."""
        return [item for item in self.items if item.status in statuses]

    @property
    def compared(self) -> int:
        """How many items were judged."""
        return len(self.items) - len(self.having("skipped"))

    @property
    def exit_code(self) -> int:
        """0: nothing regressed; 1: something did; 3: nothing was compared, or not all that should have been."""
        if self.having("regressed"):
            return 1
        return 3 if self.gaps else 0


def check(was: Baseline, now: Baseline, rules: GateTable, *, partial: bool = False) -> Outcome:
    """Compare what is measured now with a baseline.

    Args:
        was: the baseline.
        now: the same of what is stored.
        rules: of the suite.
        partial: both are a part of the suite, so a floor may be about the rest of it.

    Raises:
        InputError: the baseline is of another suite, or a rule cannot be applied.
    """
    check_suites(was.suite, now.suite)
    missing = unmeasured(now)
    gaps = [*unknown_groups(was, now), *fewer_seeds(was, now), *missing]
    pairs = _pairs(was, now)
    changed = environment_differences(was, now)
    notes = ["sgabench run, or sgabench check --run, computes what is missing"] if missing else []
    notes += [*changed, *new_groups(was, now), *new_metrics(was, now), *_other_keys(pairs)]
    items = [*_broken(was, now)]
    judged: list[Item | _Test] = []
    for old, new in pairs:
        for metric in old.metrics:
            _check_seeds(metric, old, new, rules)
            if metric not in new.metrics:
                if new.seeds and _setting(rules, metric)[0] != "off":
                    gaps.append(f"{new.name}: {metric} is in the baseline and not measured now")
                continue
            found = _compare(metric, old, new, rules, not changed, one_device(was, now))
            judged += [found] if found else []
    items += _with_verdicts(judged)
    floors = _floors(now, rules, partial)
    items += [item for item in floors if item.now]
    gaps += [f"{item.name}: nothing is measured for the {item.rule}" for item in floors if not item.now]
    if any(item.note == "one seed" for item in items):
        notes.append(
            "one seed shows no spread: the tolerance rule stands in for the statistical one; a tolerance of "
            f"{ONE_SEED_TOLERANCE:g} where the suite sets none"
        )
    if not was.groups:
        gaps.insert(0, "nothing to compare: the baseline is empty; make it anew with sgabench baseline")
    elif all(item.status == "skipped" for item in items) and not gaps:
        gaps.append("nothing to compare: every rule is off or was skipped")
    return Outcome(now.suite, tuple(items), tuple(gaps), tuple(notes))


def check_suites(was: str, now: str) -> None:
    """Refuse the baseline of another suite.

    Raises:
        InputError: it is one.
    """
    if was != now:
        raise InputError(
            f"the baseline is of suite {was!r}, this suite is {now!r}; name the baseline of this suite, "
            "or make one with sgabench baseline"
        )


def _pairs(was: Baseline, now: Baseline) -> list[tuple[Group, Group]]:
    there = {group.identity: group for group in now.groups}
    return [(group, there[group.identity]) for group in was.groups if group.identity in there]


def _other_keys(pairs: Sequence[tuple[Group, Group]]) -> list[str]:
    """Whether the same seeds were measured on what the suite asks for now."""
    other = 0
    for old, new in pairs:
        keys = dict(zip(new.seeds, new.keys, strict=True))
        other += any(keys.get(seed, key) != key for seed, key in zip(old.seeds, old.keys, strict=True))
    if not other:
        return []
    return [f"{other} of {len(pairs)} trials and cells have other keys than in the baseline: suite or plugins changed"]


def _broken(was: Baseline, now: Baseline) -> list[Item]:
    """What failed or diverged, and did not in the baseline; a trial speaks for its cells."""
    known = {group.identity: group.lacking for group in was.groups}
    trials = {trial.identity[:3]: trial.lacking for trial in now.trials}
    items = []
    for group in now.groups:
        spoken = trials[group.identity[:3]] if group.pruner is not None else {}
        broken: dict[str, list[int]] = {}
        for seed, why in group.lacking.items():
            before = known.get(group.identity, {}).get(seed)
            if why != "missing" and before != why and seed not in spoken:
                broken.setdefault(why, []).append(seed)
        for reason, seeds in broken.items():
            note = f"{reason}: seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
            items.append(Item("status", group.name, "must be measured", "regressed", note=note))
    return items


@dataclass(frozen=True)
class _Test:
    """A statistical item whose p-values wait for the others'."""

    item: Item
    p_worse: float
    p_better: float


def _setting(rules: GateTable, metric: str) -> tuple[str, float]:
    """Rule and tolerance of a metric, as the suite says or by default."""
    own, default = rules.of(metric), METRICS[metric]
    return own.rule or default.rule, default.tolerance if own.tolerance is None else own.tolerance


def _check_seeds(metric: str, old: Group, new: Group, rules: GateTable) -> None:
    """Refuse a statistical rule of the suite's own where one seed is all there is, or will be."""
    seeds = min(old.metrics[metric].n, len(new.seeds) + len(new.lacking))
    if rules.of(metric).rule == "statistical" and seeds < 2:
        raise InputError(
            f"gate.{metric}.rule: 'statistical' needs two seeds at least, here and in the baseline; "
            'write rule = "tolerance", or give the suite more seeds'
        )


def _compare(
    metric: str, old: Group, new: Group, rules: GateTable, same_environment: bool, same_device: bool
) -> Item | _Test | None:
    rule, margin = _setting(rules, metric)
    if rule == "off":
        return None
    facts, was, now = METRICS[metric], old.metrics[metric], new.metrics[metric]
    scale = 100.0 if facts.unit == "points" or not was.mean else 100.0 / abs(was.mean)
    difference = float(np.mean(now.values) - np.mean(was.values)) * scale
    item = Item(metric, new.name, rule, "held", was, now, difference, margin=margin)
    if metric == "images_per_s" and not same_device:
        return replace(item, status="skipped", note="speed is only compared on one and the same device")
    if rule == "exact":
        return _exact(replace(item, margin=None), metric, old, new, same_environment)
    note = ""
    if rule == "statistical" and min(was.n, now.n) < 2:
        if len(new.seeds) + len(new.lacking) > 1 and was.n > 1:
            return replace(item, status="skipped", note="one seed is left; the others failed")
        own = rules.of(metric).tolerance
        rule, margin, note = "tolerance", ONE_SEED_TOLERANCE if own is None else own, "one seed"
    if was.values == now.values and old.keys == new.keys:
        return replace(item, rule=rule, status="unchanged", margin=margin, note=note)
    if rule == "tolerance" or (facts.counted and not was.std and not now.std):
        worse = -difference if facts.lower_is_worse else difference
        return replace(item, rule="tolerance", margin=margin, note=note, status=_tolerated(worse, margin))
    before, after = ([value * scale for value in spread.values] for spread in (was, now))
    return _test(item, before, after, margin, paired=old.seeds == new.seeds)


def _tolerated(worse: float, margin: float) -> Status:
    limit = margin + 1e-9  # what rounding makes of a difference that is the tolerance
    return "regressed" if worse > limit else "improved" if -worse > limit else "held"


def _exact(item: Item, metric: str, old: Group, new: Group, same_environment: bool) -> Item:
    """The same key in the same environment must give the same number."""
    if not same_environment:
        return replace(item, status="skipped", note="exact: the baseline was made in another environment")
    was, now = (
        {(seed, key): value for seed, key, value in zip(g.seeds, g.keys, g.metrics[metric].values, strict=True)}
        for g in (old, new)
    )
    same = was.keys() & now.keys()
    if not same:
        return replace(item, status="skipped", note="exact: no seed has the key that it has in the baseline")
    other = sorted(seed for seed, key in same if was[seed, key] != now[seed, key])
    if not other:
        return replace(item, status="unchanged")
    return replace(item, status="regressed", note=f"other numbers for seeds {', '.join(map(str, other))}")


def _test(item: Item, was: list[float], now: list[float], margin: float, paired: bool) -> _Test:
    up = one_sided_difference([now], [was], margin, paired=paired)
    down = one_sided_difference([was], [now], margin, paired=paired)
    worse, better = (down, up) if METRICS[item.metric].lower_is_worse else (up, down)
    rule = "statistical, paired" if paired else "statistical, Welch"
    item = replace(item, rule=rule, low=float(up.low[0]), high=float(up.high[0]))
    return _Test(item, float(worse.p[0]), float(better.p[0]))


def _with_verdicts(judged: Sequence[Item | _Test]) -> list[Item]:
    """Correct the p-values of all statistical items together: 5 % false alarms are the whole gate's."""
    tests = [entry for entry in judged if isinstance(entry, _Test)]
    worse = iter(holm([test.p_worse for test in tests]))
    better = iter(holm([test.p_better for test in tests]))
    items = []
    for entry in judged:
        if isinstance(entry, Item):
            items.append(entry)
            continue
        p, q = float(next(worse)), float(next(better))
        status: Status = "regressed" if p <= ALPHA else "improved" if q <= ALPHA else "held"
        items.append(replace(entry.item, status=status, p=q if status == "improved" else p))
    return items


def _floors(now: Baseline, rules: GateTable, partial: bool) -> list[Item]:
    items = []
    for text in rules.floors:
        floor = parse_floor(text)
        groups = now.trials if floor.metric == "dense_top1" else now.cells
        covered = [group for group in groups if floor.covers(group.name, group.ratio)]
        if not covered and not partial:
            raise InputError(f"gate.floors: {floor.text!r} is about no trial or cell of this suite")
        for group in covered:
            spread = group.metrics.get(floor.metric)
            item = Item(floor.metric, group.name, f"floor {floor.text}", "held", now=spread)
            if spread is not None:
                mean = float(np.mean(spread.values))
                held = mean >= floor.bound if METRICS[floor.metric].lower_is_worse else mean <= floor.bound
                item = replace(item, status="held" if held else "regressed")
            items.append(item)
    return items
