"""Records of a plan that earlier code made, before a plugin or sgabench itself changed its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sgabench.plugins.registry import REGISTRIES
from sgabench.store.store import Store
from sgabench.suite.choices import Choice
from sgabench.suite.plan import Plan, TrialPlan, content_key, keys_of
from sgabench.suite.revisions import MEASURING_REVISION, TRAINING_REVISION

PARTS = ("dataset", "model", "optimizer")
_OWN = {
    "training_revision": "the training loop",
    "measuring_revision": "the measurements",
    "packed_revision": "which weights are pruned",
    "computed_revision": "how zeros are counted",
    "heads_revision": "which layers are classifiers",
}
# Fields of a description that identify code or content.
_CHANGING = frozenset({"revision", "code", "files", "content", *_OWN})
MOST_NAMED = 3  # modules


def earlier_records(store: Store, plan: Plan) -> list[str]:
    """A line per plugin or part of sgabench whose earlier code made records that are otherwise the same."""
    if not (_is_revised(plan) or (_is_foreign(plan) and not keys_of(plan) <= store.statuses().keys())):
        return []  # without reading a large store
    trials = {content_key(_bare(trial.description())): trial for trial in plan.trials}
    cells = _cells(plan)
    current = {trial.key: _revisions(trial) for trial in plan.trials}
    counts: Counter[str] = Counter()
    made_by: dict[str, str] = {}
    for record in store.records("trial"):
        same = trials.get(content_key(_bare(record.description)))
        if same is not None and same.key != record.key and record.key not in current:
            made_by[record.key] = _changed(record.description, same.description(), "")
            counts[made_by[record.key]] += 1
    keys = keys_of(plan)
    for record in store.records("cell"):
        parent = record.parent or ""
        if parent in made_by:
            made_by[record.key] = made_by[parent]
        elif parent in current and record.key not in keys:
            now = cells.get((current[parent], content_key(_bare(record.description))))
            if now is not None:
                made_by[record.key] = _changed(record.description, now, "pruner")
        counts.update([made_by[record.key]] if record.key in made_by else [])
    probes = _probes(plan)
    for record in store.records("probe"):
        if record.parent in made_by:
            counts[made_by[record.parent]] += 1
        elif (now := probes.get(content_key(_bare(record.description)))) is not None and record.key not in keys:
            counts[_changed(record.description, now, "probe")] += 1
    return [
        f"{number} record{'s' if number > 1 else ''} of {what} {'are' if number > 1 else 'is'} in the store; "
        "they are kept, and not counted here"
        for what, number in counts.items()
    ]


def _choices(plan: Plan) -> tuple[Choice, ...]:
    suite = plan.suite
    return (*suite.datasets, *suite.models, *suite.optimizers, *suite.pruners, *suite.probes)


def _is_revised(plan: Plan) -> bool:
    """Whether anything that a plan asks for has an earlier revision at all."""
    revised = TRAINING_REVISION != 1 or MEASURING_REVISION != 1
    own = any(cell.revisions for trial in plan.trials for cell in trial.cells[:1])
    return revised or own or any(choice.revision != 1 for choice in _choices(plan))


def _is_foreign(plan: Plan) -> bool:
    """Whether it asks for anything with the user's own code or content, which may have changed."""
    return any(choice.code or choice.tags.keys() & {"files", "fingerprint"} for choice in _choices(plan))


def _revisions(trial: TrialPlan) -> tuple[tuple[str, int], ...]:
    """The revisions that only networks of its kind have."""
    return tuple(trial.cells[0].revisions.items()) if trial.cells else ()


def _cells(plan: Plan) -> dict[tuple[tuple[tuple[str, int], ...], str], dict[str, Any]]:
    """The description of each pruning, by the revisions of networks and its description without code."""
    different = {
        (id(cell.pruner), cell.ratio, of): cell
        for trial in plan.trials
        for of in (_revisions(trial),)
        for cell in trial.cells
    }
    described = [(of, cell.description()) for (_, _, of), cell in different.items()]
    return {(of, content_key(_bare(description))): description for of, description in described}


def _probes(plan: Plan) -> dict[str, dict[str, Any]]:
    """Likewise, for each probe whose code may have changed."""
    of_trials = [(trial.key, probe.probe) for trial in plan.trials for probe in trial.probes]
    of_cells = [(cell.key, probe.probe) for _, cell in plan.cells() for probe in cell.probes]
    asked = (*of_trials, *of_cells)
    of = [{**probe.identity(), "subject": key} for key, probe in asked if probe.code or probe.revision != 1]
    return {content_key(_bare(description)): description for description in of}


def _bare(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description without the fields that identify code and content."""
    without = {name: value for name, value in description.items() if name not in _CHANGING}
    return without | {part: _bare(without[part]) for part in PARTS if isinstance(without.get(part), Mapping)}


def _changed(was: Mapping[str, Any], now: Mapping[str, Any], kind: str) -> str:
    """What has changed, in words.

    Args:
        was, now: descriptions of a trial, or of a cell.
        kind: of the plugin that a cell's or probe's description is about; empty: it is of a trial.
    """
    revised = [name for key, name in _OWN.items() if was.get(key) != now.get(key)]
    others: list[str] = []
    for of, before, after in ((kind, was, now), *((part, was.get(part, {}), now.get(part, {})) for part in PARTS)):
        if before.get("revision") != after.get("revision"):
            revised.append(str(after["name"]))
        if before.get("code") != after.get("code"):
            others.append(_code_of(of, str(after["name"])))
        if any(before.get(name) != after.get(name) for name in ("files", "content")):
            others.append(f"another content of what {of} {after['name']} reads")
    causes = [f"an earlier revision of {' and '.join(revised)}"] if revised else []
    return " and ".join([*causes, *dict.fromkeys(others)]) or "an earlier sgabench"


def _code_of(kind: str, name: str) -> str:
    """An earlier plugin file, with what it imports, or an earlier package."""
    origin = REGISTRIES[f"{kind}s"][name].origin
    if origin.sources is None or origin.sources.path is None:
        return f"an earlier {origin.label}"
    beside = origin.sources.beside
    return f"an earlier {origin.label}" + (f" or of {enumerated(beside)} beside it" if beside else "")


def enumerated(names: Sequence[str]) -> str:
    """Names as in a sentence; of many, the first few."""
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
