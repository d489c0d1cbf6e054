"""From a suite to trials, cells and keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sgabench.errors import InputError, suggestion
from sgabench.suite.checkpoints import Checkpoint
from sgabench.suite.choices import Choice
from sgabench.suite.contents import with_contents
from sgabench.suite.limits import check_records
from sgabench.suite.resolving import Suite
from sgabench.suite.revisions import measuring_revisions, network_revisions, training_revision

# Version of the form of keys. Changes of numbers raise a revision instead: where a plugin is registered, or in
# suite/revisions.py.
KEY_VERSION = 1

MOST_LEFT_OUT = 0.1  # of an epoch, without a warning


def content_key(description: Any) -> str:
    """Hash of a JSON value, independent of the order of its keys: 32 hexadecimal digits."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class ProbePlan:
    """A probe of one training, or of one trained or pruned network."""

    key: str
    probe: Choice

    @property
    def of_training(self) -> bool:
        """Whether it watches the training, which must be repeated if it is stored."""
        return self.probe.tags.get("on") == "training"


class CellPlan(NamedTuple):  # made in a third of the time of a frozen dataclass; a plan may have 100,000
    """A measurement on a trial's trained network; if it is stored, only probes are left to do."""

    key: str
    pruner: Choice
    ratio: float
    measurement: Mapping[str, Any]
    revisions: Mapping[str, int]  # for its kind of network only
    probes: tuple[ProbePlan, ...] = ()
    stored: bool = False

    @property
    def name(self) -> str:
        """``pruner/ratio``."""
        return _cell_name(self.pruner.label, self.ratio)

    @property
    def of(self) -> str:
        """What the ratio is a fraction of."""
        return str(self.pruner.options.get("of", "weights"))

    def description(self) -> dict[str, Any]:
        """What the key is made of, beside the trial's."""
        return _described(self.pruner, self.ratio, self.measurement, self.revisions)


@cache  # the same for all trials
def _cell_name(pruner: str, ratio: float) -> str:
    return f"{pruner}/{ratio:g}"


@dataclass(frozen=True)
class TrialPlan:
    """A training and the measurements of its network."""

    key: str
    group: str
    dataset: Choice
    model: Choice
    optimizer: Choice
    seed: int
    cells: tuple[CellPlan, ...]
    probes: tuple[ProbePlan, ...]
    checkpoint: Checkpoint | None = None

    @property
    def trains(self) -> bool:
        """Whether anything is trained: a checkpoint may be pruned as it is."""
        return self.checkpoint is None or self.checkpoint.trains

    @property
    def name(self) -> str:
        """``dataset/model/optimizer/seed``, which ``--only`` is matched against."""
        return f"{self.dataset.label}/{self.model.label}/{self.optimizer.label}/{self.seed}"

    def description(self) -> dict[str, Any]:
        """What the key is made of."""
        return {
            "dataset": self.dataset.identity(),
            "model": self.model.identity(),
            "optimizer": self.optimizer.identity(),
            "seed": self.seed,
            **({"checkpoint": self.checkpoint.identity()} if self.checkpoint else {}),
            **training_revision(),
        }

    def labels(self, cell: CellPlan | None = None) -> dict[str, Any]:
        """The labels of the trial, or of one of its cells, in tables; ``group`` is the same for all seeds."""
        labels: dict[str, Any] = {
            "dataset": self.dataset.label,
            "model": self.model.label,
            "optimizer": self.optimizer.label,
            "seed": self.seed,
            "group": self.group,
        }
        if cell is not None:
            labels |= {"pruner": cell.pruner.label, "ratio": cell.ratio, "of": cell.of}
        return labels


@dataclass(frozen=True)
class Plan:
    """Every trial of a suite, each with its cells."""

    suite: Suite
    trials: tuple[TrialPlan, ...]

    def cells(self) -> Iterator[tuple[TrialPlan, CellPlan]]:
        """Every cell with its trial."""
        return ((trial, cell) for trial in self.trials for cell in trial.cells)


def make_plan(suite: Suite, data_dir: Path) -> Plan:
    """Every trial and cell of a suite, with their keys.

    A key is the hash of everything that determines the result, so the same key is never computed twice, and a changed
    parameter changes exactly the keys that depend on it.

    Raises:
        InputError: data or a file whose content enters a key is missing; more records than a plan can have.
    """
    _check_size(suite, _probes_by_network(suite))
    read = with_contents(suite, data_dir)
    on = _probes_by_network(read)
    measurement = suite.measurement.model_dump(mode="json")
    revisions = {model.label: network_revisions(model) for model in read.models}
    pruners = {
        label: [
            (pruner, ratio, content_key(_described(pruner, ratio, measurement, of_network)))
            for pruner in read.pruners
            for ratio in pruner.settings["ratios"]
        ]
        for label, of_network in revisions.items()
    }

    def trial(
        key: str, group: str, of: dict[str, Choice], seed: int, checkpoint: Checkpoint | None = None
    ) -> TrialPlan:
        label = of["model"].label
        its = revisions[label]
        watching = on["training"] if checkpoint is None or checkpoint.trains else []
        pruned = on["pruned"]
        cells = tuple(
            CellPlan(its_key, pruner, ratio, measurement, its, _probes(its_key, pruned) if pruned else ())
            for pruner, ratio, of_any in pruners[label]
            for its_key in [hashlib.sha256(f"{key} {of_any}".encode()).hexdigest()[:32]]
        )
        probes = _probes(key, watching) + _probes(key, on["dense"], its)
        return TrialPlan(key, group, **of, seed=seed, cells=cells, probes=probes, checkpoint=checkpoint)

    trials = []
    for dataset in read.datasets:
        for model in read.models:
            for optimizer in read.optimizers:
                of = {"dataset": dataset, "model": model, "optimizer": optimizer}
                group = content_key(_trained(**of))
                trials += [trial(content_key([group, seed]), group, of, seed) for seed in suite.seeds]
        for checkpoint in read.checkpoints:
            of = {"dataset": dataset, "model": checkpoint.model, "optimizer": checkpoint.optimizer}
            alike = [c.sha256 for c in read.checkpoints if (c.label, c.model) == (checkpoint.label, checkpoint.model)]
            group = content_key({**_trained(**of), "checkpoints": sorted(alike)})
            its = content_key({**_trained(**of), "checkpoint": checkpoint.identity()})
            trials.append(trial(content_key([its, checkpoint.seed]), group, of, checkpoint.seed, checkpoint))
    _check_different(trials)
    return Plan(suite, tuple(trials))


def _trained(dataset: Choice, model: Choice, optimizer: Choice) -> dict[str, Any]:
    """What the key of a trial is made of, except its seed."""
    of = {"dataset": dataset.identity(), "model": model.identity(), "optimizer": optimizer.identity()}
    return {"version": KEY_VERSION, **of, **training_revision()}


def _check_different(trials: Sequence[TrialPlan]) -> None:
    """Refuse a file that appears twice with the same seed, which would be two names for one result."""
    names: dict[str, str] = {}
    for trial in trials:
        if trial.checkpoint is not None and names.setdefault(trial.key, trial.name) != trial.name:
            raise InputError(
                f"checkpoints: {names[trial.key]} and {trial.name} have files with the same content; remove one"
            )


def _probes_by_network(suite: Suite) -> dict[str, list[Choice]]:
    on: dict[str, list[Choice]] = {"training": [], "dense": [], "pruned": []}
    for probe in suite.probes:
        asked = probe.tags.get("on", "dense")
        networks = [asked] if isinstance(asked, str) else list(asked)
        if not networks or not set(networks) <= on.keys() or "training" in networks[1:]:
            valid = f"{', '.join(on)}, or ('dense', 'pruned')"
            raise InputError(f"probe {probe.name!r} is registered on={asked!r}; valid: {valid}")
        for network in networks:
            on[network].append(probe)
    return on


def _check_size(suite: Suite, on: Mapping[str, list[Choice]]) -> None:
    """Count what the suite expands to, before it is expanded."""
    trained = len(suite.models) * len(suite.optimizers) * len(suite.seeds)
    trials = len(suite.datasets) * (trained + len(suite.checkpoints))
    cells = trials * sum(len(pruner.settings["ratios"]) for pruner in suite.pruners)
    try:
        check_records(trials, cells, trials * (len(on["training"]) + len(on["dense"])) + cells * len(on["pruned"]))
    except InputError as error:
        raise InputError(f"{suite.source}: {error}") from None


def _probes(subject: str, probes: list[Choice], revisions: Mapping[str, int] | None = None) -> tuple[ProbePlan, ...]:
    revised = list((revisions or {}).values())
    return tuple(ProbePlan(content_key([subject, probe.identity(), *revised]), probe) for probe in probes)


def _described(
    pruner: Choice, ratio: float, measurement: Mapping[str, Any], revisions: Mapping[str, int]
) -> dict[str, Any]:
    """What the key of a cell is made of, beside the trial's."""
    described = {**pruner.identity(), "ratio": ratio, "measurement": dict(measurement)}
    described.pop("ratios")
    return {**described, **measuring_revisions(revisions)}


def left_out(dataset: Choice, images: int, batch_size: int) -> str | None:
    """A warning if the dropped last batch is a large part of the images; None otherwise."""
    dropped = images % batch_size
    if dropped <= MOST_LEFT_OUT * images or images < batch_size:
        return None
    return (
        f"dataset {dataset.label!r}: batch_size {batch_size} drops {dropped} of {images} training images in "
        "each epoch, different ones each time (the last batch); a batch_size that divides train_size drops none"
    )


def select(plan: Plan, pattern: str | None) -> Plan:
    """The trials whose name matches a glob (``*`` also matches ``/``); None: all.

    Raises:
        InputError: none matches.
    """
    if pattern is None:
        return plan
    trials = tuple(trial for trial in plan.trials if fnmatchcase(trial.name, pattern))
    if not trials:
        found = next(filter(None, (_around(pattern, trial) for trial in plan.trials)), None)
        hint = f"; did you mean {found!r}?" if found else suggestion(pattern, (trial.name for trial in plan.trials))
        raise InputError(f"--only {pattern}: matches no trial (dataset/model/optimizer/seed){hint}")
    return replace(plan, trials=trials)


def _around(part: str, trial: TrialPlan) -> str | None:
    """A glob for all trials with this part in the same position as in this one."""
    parts = [trial.dataset.label, trial.model.label, trial.optimizer.label, str(trial.seed)]
    if part not in parts:
        return None
    place = parts.index(part)
    before, after = ("*/" if place else ""), ("" if place == len(parts) - 1 else "/*")
    return f"{before}{part}{after}"


def part_of(plan: Plan, shard: tuple[int, int] | None) -> Plan:
    """One of several disjoint parts of a plan, of about equal size.

    Args:
        plan: the plan.
        shard: number of the part, counted from 1, and number of parts; None: all.

    Raises:
        InputError: there are fewer trials than parts, and this part is empty.
    """
    if shard is None:
        return plan
    number, parts = shard
    keys = list(dict.fromkeys(trial.key for trial in plan.trials))
    mine = set(keys[number - 1 :: parts])
    if not mine:
        raise InputError(f"--shard {number}/{parts}: the suite has only {len(keys)} different trials")
    return replace(plan, trials=tuple(trial for trial in plan.trials if trial.key in mine))


def keys_of(plan: Plan) -> set[str]:
    """All keys of a plan: of trials, cells and probes."""
    return set().union(*map(keys_of_trial, plan.trials))


def keys_of_trial(trial: TrialPlan) -> set[str]:
    """The keys of a trial, its cells, and the probes of both."""
    subjects: list[TrialPlan | CellPlan] = [trial, *trial.cells]
    return {subject.key for subject in subjects} | {probe.key for subject in subjects for probe in subject.probes}


def remaining(plan: Plan, stored: Mapping[str, str]) -> list[TrialPlan]:
    """The trials with something left to do, each with only that.

    Args:
        plan: the plan.
        stored: status of every stored record by key, as for `left_of`.
    """
    different = {trial.key: trial for trial in reversed(plan.trials)}  # entries with other labels may ask for the same
    left = (left_of(trial, stored) for trial in plan.trials if different[trial.key] is trial)
    return [trial for trial in left if trial is not None]


def left_of(trial: TrialPlan, stored: Mapping[str, str], tried: Collection[str] = ()) -> TrialPlan | None:
    """The part of a trial that is left to do; None: nothing.

    Args:
        trial: the trial.
        stored: status of stored records by key; ``failed`` ones are tried again, and nothing is left to do on the
            network of a trial that ``diverged``.
        tried: keys that failed during this run, which does not try them again.
    """
    status = stored.get(trial.key)
    if status == "diverged" or trial.key in tried:
        return None

    def is_open(probe: ProbePlan) -> bool:
        return stored.get(probe.key) != "done" and probe.key not in tried

    cells = []
    for cell in {cell.key: cell for cell in trial.cells}.values():
        is_stored = stored.get(cell.key) == "done"
        if is_stored and not cell.probes:
            continue  # most cells
        probes = tuple(filter(is_open, cell.probes))
        if cell.key not in tried and (probes or not is_stored):
            same = probes == cell.probes and is_stored == cell.stored
            cells.append(cell if same else cell._replace(probes=probes, stored=is_stored))
    probes = tuple(filter(is_open, trial.probes))
    if status == "done" and not cells and not probes:
        return None
    return replace(trial, cells=tuple(cells), probes=probes)


def only_failed(plan: Plan, stored: Mapping[str, str]) -> Plan:
    """The part of a plan that is recorded as failed, with everything that depends on it.

    That is: complete trials whose training failed; of others, complete cells that failed, and probes that failed.
    """
    failed = {key for key, status in stored.items() if status == "failed"}
    trials = []
    for trial in plan.trials:
        if trial.key not in stored:
            continue
        if trial.key not in failed:
            cells = tuple(
                cell if cell.key in failed else cell._replace(probes=_among(cell.probes, failed))
                for cell in trial.cells
            )
            cells = tuple(cell for cell in cells if cell.key in failed or cell.probes)
            trial = replace(trial, cells=cells, probes=_among(trial.probes, failed))
        if trial.key in failed or trial.cells or trial.probes:
            trials.append(trial)
    return replace(plan, trials=tuple(trials))


def _among(probes: tuple[ProbePlan, ...], keys: Collection[str]) -> tuple[ProbePlan, ...]:
    return tuple(probe for probe in probes if probe.key in keys)
