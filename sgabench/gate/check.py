"""Compare measurements with a baseline, rule by rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from sgabench.errors import InputError
from sgabench.evidence.decisions import FEWEST
from sgabench.gate.accuracy import FEW, Network, common, counted, judge, unguarded
from sgabench.gate.baseline import Baseline, Group
from sgabench.gate.differences import (
    CODE,
    environment_differences,
    fewer_seeds,
    mixed_now,
    new_groups,
    new_metrics,
    one_device,
    unknown_groups,
    unmeasured,
)
from sgabench.gate.items import Item, Outcome
from sgabench.suite.rules import ACCURACIES, FEW_SEEDS_TOLERANCE, METRICS, GateTable, parse_floor

NOTHING_TO_LOSE = "nothing to compare: all of it is hardly above chance in the baseline, so nothing can get worse"


def check(was: Baseline, now: Baseline, rules: GateTable, *, partial: bool = False) -> Outcome:
    """Compare the present measurements with a baseline.

    Args:
        was: the baseline.
        now: likewise, of the stored results.
        rules: of the suite.
        partial: both cover only a part of the suite, so a floor may apply to the rest.

    Raises:
        InputError: the baseline is of another suite, or a rule cannot be applied.
    """
    check_suites(was.suite, now.suite)
    missing = unmeasured(now)
    gaps = [*unknown_groups(was, now), *fewer_seeds(was, now), *missing]
    pairs = _pairs(was, now)
    changed = environment_differences(was, now)
    notes = ["sgabench run, or sgabench check --run, computes what is missing"] if missing else []
    notes += [*changed, *mixed_now(now), *new_groups(was, now), *new_metrics(was, now), *_other_keys(pairs)]
    networks = [*_networks(was, now, pairs, rules)]
    items = [*_failed(was, now), *judge(networks, rules)]
    gaps += [f"{name}: {NOTHING_TO_LOSE}" for name in unguarded(networks)]
    same_device = one_device(was, now)
    same_environment = not environment_differences(was, now, CODE)
    for old, new in pairs:
        for metric in old.metrics:
            if metric not in new.metrics:
                if new.seeds and rules.setting(metric)[0] != "off":
                    gaps.append(f"{new.name}: {metric} is in the baseline and not measured now")
            elif metric not in ACCURACIES or rules.setting(metric)[0] == "exact":
                found = _compare(metric, old, new, rules, same_environment, same_device)
                items += [found] if found else []
    floors = _floors(now, rules, partial)
    items += [item for item in floors if item.now]
    gaps += [f"{item.name}: nothing is measured for the {item.rule}" for item in floors if not item.now]
    notes += [*_diverged(now)]
    if any(item.note == FEW for item in items):
        notes.append(
            f"fewer than {FEWEST} seeds show no spread: the tolerance rule stands in for the test; a tolerance of "
            f"{FEW_SEEDS_TOLERANCE:g} where the suite sets none"
        )
    if not was.groups:
        gaps.insert(0, "nothing to compare: the baseline is empty; make a new one with sgabench baseline")
    elif all(item.status == "skipped" for item in items) and not gaps:
        gaps.append("nothing to compare: every rule is off or was skipped")
    return Outcome(now.suite, tuple(items), tuple(gaps), tuple(notes), rules.undecided == "pass")


def _networks(
    was: Baseline, now: Baseline, pairs: Sequence[tuple[Group, Group]], rules: GateTable
) -> Iterator[Network]:
    """Networks with an accuracy on both sides that is judged by its size."""
    trials = [{trial.identity[:3]: trial for trial in side.trials} for side in (was, now)]
    for old, new in pairs:
        metric = "dense_top1" if old.pruner is None else "pruned_top1"
        if rules.setting(metric)[0] in ("off", "exact"):
            continue
        of_old, of_new = (side[group.identity[:3]] for side, group in zip(trials, (old, new), strict=True))
        classes, images = of_old.classes or of_new.classes, of_old.test_images or of_new.test_images
        if classes and images:
            before, after = (
                counted(group, trial, metric, classes, images) for group, trial in ((old, of_old), (new, of_new))
            )
            yield Network(metric, *common(before, after), old, new, classes, images)


def hardly_above_chance(was: Baseline) -> list[str]:
    """Networks of a baseline that cannot be seen to get worse."""
    itself = [(group, group) for group in was.groups]
    networks = _networks(was, was, itself, GateTable())
    return [network.name for network in networks if network.was and network.silent]


def check_suites(was: str, now: str) -> None:
    """Refuse a baseline of another suite.

    Raises:
        InputError: it is of another suite.
    """
    if was != now:
        raise InputError(
            f"the baseline is of suite {was!r}, this suite is {now!r}; name the baseline of this suite with "
            "--baseline, or make one with sgabench baseline"
        )


def _pairs(was: Baseline, now: Baseline) -> list[tuple[Group, Group]]:
    there = {group.identity: group for group in now.groups}
    return [(group, there[group.identity]) for group in was.groups if group.identity in there]


def _other_keys(pairs: Sequence[tuple[Group, Group]]) -> list[str]:
    """A note if seeds have other keys than in the baseline: what the suite asks for has changed."""
    other = 0
    for old, new in pairs:
        keys = dict(zip(new.seeds, new.keys, strict=True))
        other += any(keys.get(seed, key) != key for seed, key in zip(old.seeds, old.keys, strict=True))
    if not other:
        return []
    have = "has" if other == 1 else "have"
    return [
        f"{other} of {len(pairs)} trials and cells {have} other keys than in the baseline: suite or plugins changed"
    ]


def _failed(was: Baseline, now: Baseline) -> list[Item]:
    """What failed, but not in the baseline; a failed trial stands for its cells."""
    known = {group.identity: group.lacking for group in was.groups}
    trials = {trial.identity[:3]: trial.lacking for trial in now.trials}
    items = []
    for group in now.groups:
        spoken = trials[group.identity[:3]] if group.pruner is not None else {}
        before = known.get(group.identity, {})
        seeds = [
            seed
            for seed, why in group.lacking.items()
            if why == "failed" and before.get(seed) != why and seed not in spoken
        ]
        if seeds:
            note = f"failed: seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
            items.append(Item("status", group.name, "must be measured", "regressed", note=note))
    return items


def _diverged(now: Baseline) -> Iterator[str]:
    """Results that are counted as chance; a trial stands for its cells."""
    trials = {trial.identity[:3]: trial.lacking for trial in now.trials}
    for group in now.groups:
        spoken = trials[group.identity[:3]] if group.pruner is not None else {}
        seeds = [seed for seed, why in group.lacking.items() if why == "diverged" and seed not in spoken]
        if seeds:
            shown = ", ".join(map(str, seeds))
            yield f"diverged, so counted at chance: {group.name}: seed{'s' if len(seeds) > 1 else ''} {shown}"


def _compare(
    metric: str, old: Group, new: Group, rules: GateTable, same_environment: bool, same_device: bool
) -> Item | None:
    """Compare without a test: sizes, speed, and everything that the suite wants to be exact."""
    rule, margin = rules.setting(metric)
    if rule == "off":
        return None
    facts, was, now = METRICS[metric], old.metrics[metric], new.metrics[metric]
    scale = 100.0 if facts.unit == "points" or not was.mean else 100.0 / abs(was.mean)
    difference = float(np.mean(now.values) - np.mean(was.values)) * scale
    item = Item(metric, new.name, rule, "held", was, now, difference, margin=margin)
    if metric == "images_per_s" and not same_device:
        return replace(item, status="skipped", note="speed is only compared on the same device")
    if rule == "exact":
        return _exact(replace(item, margin=None), metric, old, new, same_environment)
    if was.values == now.values and old.keys == new.keys:
        return replace(item, status="unchanged")
    worse = -difference if facts.lower_is_worse else difference
    limit = margin + 1e-9  # allows for rounding of a difference that equals the tolerance
    return replace(item, status="regressed" if worse > limit else "improved" if -worse > limit else "held")


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
