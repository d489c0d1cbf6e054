"""Differences between a baseline and a run: cells, names, environments."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sized
from typing import Any

from sgabench.errors import counted, suggestion
from sgabench.evidence.mixing import mixed
from sgabench.gate.baseline import Baseline

LABELS = ("dataset", "model", "optimizer", "pruner")
CODE = ("code", "commit")  # expected to differ: a gate tests new code
MOST_EXPLAINED = 100  # names: searching for similar ones takes long


def unknown_groups(was: Baseline, now: Baseline) -> list[str]:
    """Groups of the baseline that the suite lacks: a line per name, then per trial or cell."""
    there = {group.identity for group in now.groups}
    valid = {label: {name for group in now.groups if (name := getattr(group, label))} for label in LABELS}
    names: dict[tuple[str, str], None] = {}
    unexplained = []
    for group in was.groups:
        if group.identity in there:
            continue
        unknown = [(label, name) for label in LABELS if (name := getattr(group, label)) and name not in valid[label]]
        names.update(dict.fromkeys(unknown))
        if not unknown:
            unexplained.append(group)
    cells = Counter((label, getattr(cell, label)) for cell in was.cells for label in LABELS)
    lines = [
        f"not in the suite: {label} {name!r} of the baseline ({counted(cells[label, name], 'cell')}; make the baseline "
        f"anew if it was renamed or removed){suggestion(name, valid[label]) if len(names) <= MOST_EXPLAINED else ''}"
        for label, name in names
    ]
    return lines + [
        f"not in the suite: {'trial' if group.pruner is None else 'cell'} {group.name} of the baseline; make the "
        "baseline anew if that is meant"
        for group in unexplained
    ]


def fewer_seeds(was: Baseline, now: Baseline) -> list[str]:
    """Notes on fewer seeds, with which a gate is easier to pass."""
    there = {group.identity: len(group.seeds) + len(group.lacking) for group in now.groups}
    pairs = {(there[group.identity], len(group.seeds)) for group in was.groups if group.identity in there}
    return [
        f"fewer seeds: {new} in the suite, {old} in the baseline; make a new baseline if that is meant"
        for new, old in sorted(pairs)
        if new < old
    ]


def new_metrics(was: Baseline, now: Baseline) -> list[str]:
    """Metrics that the baseline lacks, for trials and cells that it has."""
    before = {group.identity: group for group in was.groups}
    new = [
        group.name
        for group in now.groups
        if group.identity in before and group.metrics.keys() - before[group.identity].metrics.keys()
    ]
    if not new:
        return []
    shown = ", ".join(new[:3]) + (", ..." if len(new) > 3 else "")
    return [f"not measured in the baseline, so not compared: {_counted(new)} ({shown}); make a new baseline"]


def new_groups(was: Baseline, now: Baseline) -> list[str]:
    """Groups of the suite that the baseline lacks: not compared, and not a failure."""
    there = {group.identity for group in was.groups}
    new = [group.name for group in now.groups if group.identity not in there]
    if not new or not was.groups:
        return []
    shown = ", ".join(new[:3]) + (", ..." if len(new) > 3 else "")
    return [f"not in the baseline, so not compared: {_counted(new)} ({shown}); make a new baseline"]


def unmeasured(now: Baseline) -> list[str]:
    """Missing results: a line per trial or cell; a missing trial stands for its cells."""
    untrained = {group.identity[:3]: group.lacking for group in now.trials}
    lines = []
    for group in now.groups:
        spoken = untrained[group.identity[:3]] if group.pruner is not None else {}
        seeds = [seed for seed, why in group.lacking.items() if why == "missing" and seed not in spoken]
        if seeds:
            what = "trial" if group.pruner is None else "cell"
            shown = ", ".join(map(str, seeds[:10])) + (", ..." if len(seeds) > 10 else "")
            lines.append(f"missing: {what} {group.name}: seed{'s' if len(seeds) > 1 else ''} {shown}")
    return lines


def environment_differences(was: Baseline, now: Baseline, but: Collection[str] = ()) -> list[str]:
    """A line per fact of the environment that differs, except those in ``but``; none if a side is empty."""
    if not was.environments or not now.environments:
        return []
    old, new = ([_flat(environment) for environment in side.environments] for side in (was, now))
    lines = []
    for fact in dict.fromkeys(fact for environment in (*old, *new) for fact in environment if fact not in but):
        before, after = ({environment.get(fact, "none") for environment in side} for side in (old, new))
        if before != after:
            sides = (" and ".join(sorted(values)) for values in (before, after))
            lines.append(f"environment: {fact}: {next(sides)} in the baseline, {next(sides)} now")
    return lines


def mixed_now(now: Baseline) -> list[str]:
    """How the present measurements differ among themselves in the way they were made."""
    return [f"environment: what is compared now was made {phrase}" for phrase in mixed(now.environments)]


def one_device(was: Baseline, now: Baseline) -> bool:
    """Whether everything on both sides was computed on the same kind of device, with the same number of threads."""
    devices = {
        tuple(str(environment.get(fact)) for fact in ("device", "gpu", "cpu", "threads"))
        for environment in (*was.environments, *now.environments)
    }
    return len(devices) == 1


def _flat(environment: Mapping[str, Any]) -> dict[str, str]:
    packages = environment.get("packages")
    flat = {name: _text(value) for name, value in environment.items() if name != "packages"}
    if isinstance(packages, Mapping):
        flat |= {str(name): _text(version) for name, version in packages.items()}
    return flat


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _counted(groups: Sized) -> str:
    return counted(len(groups), "trial or cell", "trials and cells")
