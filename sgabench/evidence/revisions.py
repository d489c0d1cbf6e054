"""Records of earlier revisions: what a store still has of a plan, made before its plugins changed their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sgabench.store.store import Store
from sgabench.suite.plan import MEASURING_REVISION, TRAINING_REVISION, Plan, content_key

PARTS = ("dataset", "model", "optimizer")
_OWN = {"training_revision": "the training loop", "measuring_revision": "the measurements"}


def earlier_revisions(store: Store, plan: Plan) -> list[str]:
    """A line per plugin, or part of sgabench, whose earlier revision made records that differ in nothing else."""
    if not _is_revised(plan):
        return []  # and a large store is not read
    trials = {content_key(_bare(trial.description())): trial for trial in plan.trials}
    cells = _cells(plan)
    current = {trial.key for trial in plan.trials}
    counts: Counter[str] = Counter()
    made_by: dict[str, str] = {}
    for record in store.records("trial"):
        same = trials.get(content_key(_bare(record.description)))
        if same is not None and same.key != record.key and record.key not in current:
            made_by[record.key] = _changed(record.description, same.description())
            counts[made_by[record.key]] += 1
    keys = {cell.key for _, cell in plan.cells()}
    for record in store.records("cell"):
        parent = record.parent or ""
        if parent in made_by:
            made_by[record.key] = made_by[parent]
        elif parent in current and record.key not in keys:
            now = cells.get(content_key(_bare(record.description)))
            if now is not None:
                made_by[record.key] = _changed(record.description, now)
        counts.update([made_by[record.key]] if record.key in made_by else [])
    counts.update(made_by[record.parent] for record in store.records("probe") if record.parent in made_by)
    return [
        f"{number} record{'s' if number > 1 else ''} of an earlier revision of {name} {'are' if number > 1 else 'is'} "
        "in the store; they are kept, and not counted here"
        for name, number in counts.items()
    ]


def _is_revised(plan: Plan) -> bool:
    """Whether anything that a plan asks for has an earlier revision at all."""
    suite = plan.suite
    choices = (*suite.datasets, *suite.models, *suite.optimizers, *suite.pruners)
    return TRAINING_REVISION != 1 or MEASURING_REVISION != 1 or any(choice.revision != 1 for choice in choices)


def _cells(plan: Plan) -> dict[str, dict[str, Any]]:
    """The description of each pruning, by what it is but for revisions."""
    different = {(id(cell.pruner), cell.ratio): cell for _, cell in plan.cells()}
    descriptions = [cell.description() for cell in different.values()]
    return {content_key(_bare(description)): description for description in descriptions}


def _bare(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description without revisions."""
    without = {name: value for name, value in description.items() if name not in ("revision", *_OWN)}
    return without | {part: _bare(without[part]) for part in PARTS if isinstance(without.get(part), Mapping)}


def _changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What has another revision now."""
    names = [name for key, name in _OWN.items() if was.get(key) != now.get(key)]
    for before, after in ((was, now), *((was.get(part, {}), now.get(part, {})) for part in PARTS)):
        if before.get("revision") != after.get("revision"):
            names.append(str(after["name"]))
    return " and ".join(names) or "sgabench"
