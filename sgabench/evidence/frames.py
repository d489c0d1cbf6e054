"""From records to data frames: every trial and every cell, with the columns that tables show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sgabench.evidence.columns import Columns, read_columns
from sgabench.evidence.distinctions import distinctions
from sgabench.evidence.probes import probe_numbers
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, content_key, keys_of

TRIAL = ["dataset", "model", "optimizer"]
PRUNER = ["dataset", "model", "pruner", "of"]
COSTS = ("train_passes", "train_seconds")  # of a cell's training
NONE = -1  # in place of a record's number

Places = NDArray[np.intp]


@dataclass(frozen=True)
class Frames:
    """What is stored, or what a plan asks for.

    Attributes:
        trials: a row per trial; ``group``: the same for all seeds; ``at_chance``: no better than guessing;
            ``counted_top1``: the top-1 that counts: that of guessing where the training diverged or the network is at
            chance, and NaN where it is unknown (missing, failed).
        cells: a row per cell, with its trial's dense accuracy; ``counted_top1`` and ``counted_dense`` likewise.
        failures: a row per trial, cell or probe that failed or diverged, with the error.
        probes: what probes found, see `sgabench.evidence.probes.probe_numbers`.
        environments: the different environments that the records were made in; the column ``environment`` of trials
            and cells numbers them.
        made_of: the description of a trial of each ``group``.
    """

    trials: pd.DataFrame
    cells: pd.DataFrame
    failures: pd.DataFrame
    probes: pd.DataFrame
    environments: tuple[Mapping[str, Any], ...]
    made_of: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Rows:
    """Rows to be made: labels, keys, the number of each one's record and, for cells, of its trial's."""

    labels: pd.DataFrame
    keys: Sequence[str]
    record: Places
    trial: Places


def of_plan(store: Store, plan: Plan) -> Frames:
    """What a plan asks for, in its order and with its labels, including rows for what is not stored yet."""
    found = read_columns(store, keys_of(plan))
    cells = [cell for trial in plan.trials for cell in trial.cells]
    keys, cell_keys = [trial.key for trial in plan.trials], [cell.key for cell in cells]
    record = _places(found["trial"], keys)
    labels = pd.DataFrame([trial.labels() for trial in plan.trials])
    trial = np.repeat(np.arange(len(keys)), [len(trial.cells) for trial in plan.trials])
    of_cells = _taken(labels, trial).assign(
        pruner=[cell.pruner.label for cell in cells],
        ratio=[cell.ratio for cell in cells],
        of=[cell.of for cell in cells],
    )
    return _frames(
        found,
        _Rows(labels, keys, record, record),
        _Rows(of_cells, cell_keys, _places(found["cell"], cell_keys), record[trial]),
        {group: trial.description() for group, trial in {trial.group: trial for trial in plan.trials}.items()},
    )


def of_everything(store: Store) -> Frames:
    """All that is stored; different things with the same label are marked, so that they are never mixed."""
    found = read_columns(store)
    trials, cells = found["trial"], found["cell"]
    labels, of_cells = trials.labels.frame(), cells.labels.frame()
    different = {id(made_of): made_of for made_of in cells.descriptions}
    pruner_key = {number: _pruner_key(made_of) for number, made_of in different.items()}
    of_cells["pruner_key"] = pd.Series([pruner_key[id(made_of)] for made_of in cells.descriptions], dtype=object)
    record, trial = np.arange(len(cells.keys)), _places(trials, [parent or "" for parent in cells.parents])
    keys = cells.keys
    more = _of_undone(trials, labels, of_cells, trial)
    if len(more):
        record = np.concatenate([record, np.full(len(more), NONE)])
        trial = np.concatenate([trial, more.pop("trial").to_numpy()])
        keys = [*keys, *[""] * len(more)]
        of_cells = pd.concat([of_cells, more], ignore_index=True)
    all_trials = np.arange(len(trials.keys))
    trial_rows = _sorted(_Rows(labels, trials.keys, all_trials, all_trials), [*TRIAL, "seed"])
    cell_rows = _sorted(_Rows(of_cells, keys, record, trial), [*PRUNER, "ratio", "optimizer", "seed"])
    made_of = {
        "group": dict(zip(labels.get("group", ()), trials.descriptions, strict=True)),
        "pruner_key": {pruner_key[number]: description for number, description in different.items()},
    }
    _make_distinct(trial_rows.labels, cell_rows.labels, made_of)
    return _frames(found, trial_rows, cell_rows, made_of["group"])


def _pruner_key(description: Mapping[str, Any]) -> str:
    return content_key({key: value for key, value in description.items() if key != "ratio"})


def _of_undone(trials: Columns, labels: pd.DataFrame, cells: pd.DataFrame, trial: np.ndarray) -> pd.DataFrame:
    """A row for each pruning that a trial that is not done has no cell of: it must not vanish from the tables."""
    undone = [number for number, status in enumerate(trials.statuses) if status != "done"]
    if not undone or cells.empty:
        return pd.DataFrame()
    asked = cells[[*PRUNER, "ratio", "pruner_key"]].drop_duplicates()
    more = labels.iloc[undone].assign(trial=undone).merge(asked, on=["dataset", "model"])
    names = ["trial", "ratio", "pruner_key"]
    stored = pd.MultiIndex.from_frame(cells.assign(trial=trial)[names])
    return more[~pd.MultiIndex.from_frame(more[names]).isin(stored)]


def _sorted(rows: _Rows, names: list[str]) -> _Rows:
    """The rows in the order of some labels as text."""
    if not len(rows.keys):
        return rows
    ranks = []
    for name in names:
        codes, values = pd.factorize(rows.labels[name])
        texts = [str(value) for value in values]
        place = {text: number for number, text in enumerate(sorted(texts))}
        ranks.append(np.array([place[text] for text in texts])[codes])
    order = np.lexsort(ranks[::-1])
    keys = [rows.keys[place] for place in order]
    return _Rows(_taken(rows.labels, order), keys, rows.record[order], rows.trial[order])


MadeOf = Mapping[str, Mapping[str, Mapping[str, Any]]]


def _make_distinct(trials: pd.DataFrame, cells: pd.DataFrame, made_of: MadeOf) -> None:
    """Mark labels with several meanings, so that these are never averaged, compared or joined to a curve.

    Args:
        trials, cells: their labels, changed in place.
        made_of: key to description, for ``group`` and ``pruner_key``.
    """
    frames = [frame for frame in (trials, cells) if len(frame)]
    for name, names, key, marked in (
        ("optimizer", TRIAL, "group", frames),
        ("pruner", PRUNER, "pruner_key", [frame for frame in frames if frame is cells]),
    ):
        marks = _marks(marked, names, key, made_of[key])
        for frame in marked if marks else ():
            places = zip(*(frame[part] for part in (*names, key)), strict=True)
            frame[name] += [marks.get(place, "") for place in places]


def _marks(
    frames: list[pd.DataFrame], names: list[str], key: str, made_of: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[Any, ...], str]:
    """How keys that share a label differ, by (label, key)."""
    if not frames:
        return {}
    different = pd.concat([frame[[*names, key]] for frame in frames]).drop_duplicates()
    keys: dict[tuple[Any, ...], list[str]] = {}
    for *labels, of in different[different.duplicated(names, keep=False)].itertuples(index=False, name=None):
        keys.setdefault(tuple(labels), []).append(of)
    return {
        (*labels, of): text
        for labels, several in keys.items()
        for of, text in distinctions({of: made_of.get(of, {}) for of in several}).items()
    }


def _frames(
    found: Mapping[str, Columns], trials: _Rows, cells: _Rows, made_of: Mapping[str, Mapping[str, Any]]
) -> Frames:
    made_in = [*_environments(found["trial"], trials.record), *_environments(found["cell"], cells.record)]
    environments = {content_key(environment): environment for environment in made_in}
    numbers = {identity: number for number, identity in enumerate(environments)}
    of_trials = _trials(found["trial"], trials, numbers)
    of_cells = _cells(found["cell"], found["trial"], cells, numbers)
    return Frames(
        of_trials,
        of_cells,
        _failures(found),
        probe_numbers(found["probe"], of_trials, of_cells),
        tuple(environments.values()),
        made_of,
    )


def _trials(records: Columns, rows: _Rows, numbers: Mapping[str, int]) -> pd.DataFrame:
    if not len(rows.keys):
        return pd.DataFrame()
    results = _taken(records.results.frame(), rows.record)
    status = _values(records.statuses, rows.record, "missing")
    at_chance = _at_chance(results)
    chance, _ = _guessing(results, rows.labels["dataset"])
    return pd.DataFrame(
        {
            **{str(name): rows.labels[name] for name in rows.labels},
            "status": status,
            **{str(name): results[name] for name in results},
            "at_chance": at_chance,
            "counted_top1": _counted(_column(results, "top1"), status, at_chance, chance),
            "key": rows.keys,
            **_shown_of_environments(records, rows.record, numbers),
        }
    )


def _cells(records: Columns, of_trials: Columns, rows: _Rows, numbers: Mapping[str, int]) -> pd.DataFrame:
    if not len(rows.keys):
        return pd.DataFrame()
    of_trial = _values(of_trials.statuses, rows.trial, "done")
    status = _values(records.statuses, rows.record, "missing")
    names = ["top1", "top5", "loss", "images_per_s", "classes", "test_images", "seconds", *COSTS]
    dense = _taken(of_trials.results.frame(names), rows.trial)
    results = _taken(records.results.frame(), rows.record)
    status = np.where(of_trial == "done", status, of_trial)
    at_chance = _at_chance(dense)
    chance, images = _guessing(dense, rows.labels["dataset"])
    return pd.DataFrame(
        {
            **{str(name): rows.labels[name] for name in rows.labels},
            "status": status,
            "counted_top1": _counted(_column(results, "top1"), status, at_chance, chance),
            "counted_dense": _counted(_column(dense, "top1"), of_trial, at_chance, chance),
            "trained": (of_trial == "done") & ~at_chance,
            "chance": chance,
            "test_images": images,
            "trial_seconds": _column(dense, "seconds"),
            **{name: _column(dense, name) for name in COSTS},
            "dense_top1": _column(dense, "top1"),
            "dense_loss": _column(dense, "loss"),
            "dense_top5": _column(dense, "top5"),
            "pruned_top1": _column(results, "top1"),
            "pruned_top5": _column(results, "top5"),
            "pruned_loss": _column(results, "loss"),
            "dense_images_per_s": _column(dense, "images_per_s"),
            **{str(name): results[name] for name in results if name not in ("top1", "top5", "loss")},
            "key": rows.keys,
            **_shown_of_environments(records, rows.record, numbers),
        }
    )


def _failures(found: Mapping[str, Columns]) -> pd.DataFrame:
    parts = [*TRIAL, "seed", "pruner", "ratio", "probe"]
    rows = [
        [kind, "/".join(str(labels[part]) for part in parts if labels.get(part) is not None), status, error]
        for kind, records in found.items()
        for status, labels, error in records.failures
    ]
    return pd.DataFrame(rows, columns=["kind", "name", "status", "error"])


def _at_chance(results: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether networks are no better than guessing, within three standard deviations of guesses."""
    names = ("classes", "test_images", "top1")
    classes, images, top1 = (_column(results, name).to_numpy(dtype=float, na_value=np.nan) for name in names)
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = 1 / classes
        most = chance + 3 * np.sqrt(chance * (1 - chance) / images)
    return np.asarray(np.isfinite(most) & (top1 <= most))


def _guessing(results: pd.DataFrame, dataset: pd.Series[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The accuracy of guessing and the number of test images; the data set's where a trial has no numbers."""
    known = [
        _column(results, name).astype(float).groupby(dataset.to_numpy(), sort=False).transform("first").to_numpy()
        for name in ("classes", "test_images")
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / known[0], known[1]


def _counted(top1: pd.Series[Any], status: NDArray[Any], at_chance: NDArray[Any], chance: NDArray[Any]) -> NDArray[Any]:
    measured = top1.to_numpy(dtype=float, na_value=np.nan)
    counted = np.where(status == "done", np.where(at_chance, chance, measured), np.nan)
    return np.asarray(np.where(status == "diverged", chance, counted))


def _places(records: Columns, keys: Sequence[str]) -> Places:
    """The number of each key's record."""
    places = {key: place for place, key in enumerate(records.keys)}
    return np.array([places.get(key, NONE) for key in keys], dtype=np.intp)


def _taken(frame: pd.DataFrame, places: Places) -> pd.DataFrame:
    return frame.reindex(places).reset_index(drop=True)


def _column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    return frame[name] if name in frame else pd.Series([None] * len(frame), dtype=object)


def _values(values: list[str], places: Places, default: str) -> NDArray[Any]:
    return np.array([*values, default], dtype=object)[places]  # -1 is the last


def _environments(records: Columns, places: Places) -> list[Mapping[str, Any]]:
    """The different environments of some records, in order of appearance."""
    made_in = np.array(records.made_in, dtype=np.intp)[places[places != NONE]]
    return [records.environments[number] for number in dict.fromkeys(made_in.tolist())]


def _shown_of_environments(records: Columns, places: Places, numbers: Mapping[str, int]) -> dict[str, pd.Series[Any]]:
    """The columns of the environments that tables show, and their numbers among all."""
    different, made_in = np.unique(np.array([*records.made_in, NONE])[places], return_inverse=True)
    known = [None if number == NONE else records.environments[number] for number in different]
    shown = {
        "device": [environment and environment["device"] for environment in known],
        "threads": [environment and environment["threads"] for environment in known],
        "machine": [environment and (environment.get("gpu") or environment["cpu"]) for environment in known],
    }
    numbered = [environment and numbers[content_key(environment)] for environment in known]
    series = {"environment": pd.Series(numbered, dtype=object), **{name: pd.Series(of) for name, of in shown.items()}}
    return {name: values.take(made_in).reset_index(drop=True) for name, values in series.items()}
