"""Baselines: the frozen measurements of a suite, in a small JSON file that is readable in a diff."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sgabench.errors import InputError, counted, first_problem, shorten, similar
from sgabench.evidence.leaderboard import Tables
from sgabench.store.store import write_atomically
from sgabench.suite.limits import MAX_SEEDS
from sgabench.suite.resolving import read_text
from sgabench.suite.rules import ACCURACIES, METRICS

FORMAT = 2
DIGITS = 10  # significant: enough to distinguish all ratios of two counts up to 10 000
SUMMARY_DIGITS = 6
KEY_DIGITS = 12
MAX_BYTES = 20_000_000
MAX_GROUPS = 100_000
MAX_VALUES = 2_000_000  # including equal ones, which the file leaves out


def _check_text(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"must be printable text, got {shorten(text)}")
    return text


Text = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_check_text)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e18, le=1e18)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Spread(_Frozen):
    """A metric over seeds; the standard deviation is of a sample (n - 1), none with one seed.

    In a file, values that are all equal are left out: the mean is enough.
    """

    mean: Number
    std: Number | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=MAX_SEEDS)]
    values: Annotated[tuple[Number, ...], Field(min_length=1, max_length=MAX_SEEDS)]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Describe values, rounded to 10 significant digits."""
        kept = tuple(_rounded(value, DIGITS) for value in values)
        mean, std, n = kept[0], 0.0, len(kept)
        if len(set(kept)) > 1:
            mean = math.fsum(kept) / n
            std = math.sqrt(math.fsum((value - mean) ** 2 for value in kept) / (n - 1))
            mean, std = _rounded(mean, SUMMARY_DIGITS), _rounded(std, SUMMARY_DIGITS)
        return cls(mean=mean, std=std if n > 1 else None, n=n, values=kept)

    @model_validator(mode="before")
    @classmethod
    def _the_same(cls, data: Any) -> Any:
        n = data.get("n") if isinstance(data, dict) else None
        if isinstance(n, int) and 1 <= n <= MAX_SEEDS and "values" not in data and "mean" in data:
            return {**data, "values": [data["mean"]] * n}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Spread:
        if self.n != len(self.values):
            raise ValueError(f"n is {self.n}, but there are {len(self.values)} values")
        if not math.isclose(self.mean, math.fsum(self.values) / self.n, rel_tol=1e-4, abs_tol=1e-12):
            raise ValueError(f"{self.mean:g} is not the mean of its values; make a new baseline")
        return self


class Group(_Frozen):
    """A trial or a cell over its seeds; without a pruner it is the dense network.

    Attributes:
        seeds: those that are done, increasing; keys and values are in their order.
        keys: the first digits of each seed's key.
        lacking: seeds that are not done, and why.
        metrics: metric to its values.
        classes, test_images: of a trial: number of classes of its data set, and of images that an accuracy counts.
    """

    dataset: Text
    model: Text
    optimizer: Text
    pruner: Text | None = None
    ratio: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = None
    of: Text | None = None
    seeds: Annotated[tuple[Seed, ...], Field(max_length=MAX_SEEDS)]
    keys: Annotated[tuple[Text, ...], Field(max_length=MAX_SEEDS)]
    lacking: dict[Annotated[int, Field(ge=0)], Literal["missing", "failed", "diverged"]] = {}
    metrics: dict[str, Spread]
    classes: Annotated[int, Field(strict=True, ge=2, le=10**9)] | None = None
    test_images: Annotated[int, Field(strict=True, ge=1, le=10**12)] | None = None

    @property
    def name(self) -> str:
        """``dataset/model/optimizer``, and ``/pruner/ratio`` of a cell."""
        trial = f"{self.dataset}/{self.model}/{self.optimizer}"
        return trial if self.pruner is None else f"{trial}/{self.pruner}/{self.ratio:g}"

    @property
    def identity(self) -> tuple[Any, ...]:
        """Identifies the group across baselines."""
        return (self.dataset, self.model, self.optimizer, self.pruner or "", self.of or "", self.ratio or 0.0)

    @model_validator(mode="after")
    def _consistent(self) -> Group:
        if (self.pruner is None) != (self.ratio is None) or (self.pruner is None) != (self.of is None):
            raise ValueError("pruner, ratio and of belong together")
        if list(self.seeds) != sorted(set(self.seeds)) or len(self.keys) != len(self.seeds):
            raise ValueError("seeds must increase and have a key each")
        for metric, spread in self.metrics.items():
            if metric not in METRICS:
                raise ValueError(f"unknown metric {shorten(metric)}")
            if spread.n != len(self.seeds):
                raise ValueError(f"{metric} has {counted(spread.n, 'value')} for {counted(len(self.seeds), 'seed')}")
            most = 1.0 if metric in ("dense_top1", "pruned_top1", "sparsity") else math.inf
            if not 0 <= min(spread.values) <= max(spread.values) <= most:
                raise ValueError(
                    f"{metric} is from 0 to {most:g}, got {min(spread.values):g} to {max(spread.values):g}"
                )
        return self


class Baseline(_Frozen):
    """The measurements of a suite.

    Attributes:
        environments: the different environments of the records.
        trials: a group per (data set, model, optimizer), with the dense accuracy.
        cells: a group per (data set, model, optimizer, pruner, ratio).
    """

    format: Literal[2] = 2
    suite: Text
    environments: Annotated[tuple[dict[str, Any], ...], Field(max_length=1000)]
    trials: Annotated[tuple[Group, ...], Field(max_length=MAX_GROUPS)]
    cells: Annotated[tuple[Group, ...], Field(max_length=MAX_GROUPS)]

    @property
    def groups(self) -> tuple[Group, ...]:
        """Trials, then cells."""
        return (*self.trials, *self.cells)

    @model_validator(mode="after")
    def _unique(self) -> Baseline:
        seen: set[tuple[Any, ...]] = set()
        for group in self.groups:
            if group.identity in seen:
                raise ValueError(f"{group.name} appears twice")
            seen.add(group.identity)
        return self

    @model_validator(mode="after")
    def _counted(self) -> Baseline:
        counted = {trial.identity[:3] for trial in self.trials if trial.classes and trial.test_images}
        for group in self.groups:
            if group.metrics.keys() & ACCURACIES and group.identity[:3] not in counted:
                raise ValueError(
                    f"{group.name} has an accuracy and its trial lacks classes or test_images; make a new baseline"
                )
        return self

    def only(self, pattern: str | None) -> Baseline:
        """The part with trials (dataset/model/optimizer/seed) that match a glob; None: all."""
        if pattern is None:
            return self
        chosen = {"trials": _only(self.trials, pattern), "cells": _only(self.cells, pattern)}
        return self.model_copy(update=chosen)


def freeze(tables: Tables, suite: str) -> Baseline:
    """Freeze the tables of a plan."""
    trials = [{**row, "dense_top1": row.get("top1")} for row in tables.trials.to_dict("records")]
    counts = _counts(trials)
    metrics = [name for name in METRICS if name != "dense_top1"]
    return Baseline(
        suite=suite,
        environments=tuple(dict(environment) for environment in tables.environments),
        trials=tuple(
            group.model_copy(update=counts.get(group.dataset, {}))
            for group in _groups(trials, ("dataset", "model", "optimizer"), ["dense_top1"])
        ),
        cells=_groups(
            tables.cells.to_dict("records"), ("dataset", "model", "optimizer", "pruner", "ratio", "of"), metrics
        ),
    )


def _counts(trials: list[dict[Any, Any]]) -> dict[Any, dict[str, int]]:
    """Classes and test images of each data set; diverged trainings have no such numbers."""
    counts: dict[Any, dict[str, int]] = {}
    for row in trials:
        found = {name: row.get(name) for name in ("classes", "test_images")}
        if all(value is not None and math.isfinite(value) for value in found.values()):
            counts.setdefault(row["dataset"], {name: int(value) for name, value in found.items()})  # type: ignore[arg-type]
    for row in trials:
        if row["status"] == "done" and row["dataset"] not in counts:
            raise InputError(
                f"{row['dataset']}/{row['model']}/{row['optimizer']}, seed {row['seed']}: the record does not say how "
                "many classes and test images there are; run it again into another results folder"
            )
    return counts


def _groups(rows: list[dict[Any, Any]], by: tuple[str, ...], metrics: list[str]) -> tuple[Group, ...]:
    grouped: dict[tuple[Any, ...], list[dict[Any, Any]]] = {}
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        grouped.setdefault(tuple(row[name] for name in by), []).append(row)
    groups = []
    for labels, members in grouped.items():
        done = [row for row in members if row["status"] == "done"]
        values = {name: [row.get(name) for row in done] for name in metrics}
        group = Group(
            **dict(zip(by, labels, strict=True)),
            seeds=tuple(int(row["seed"]) for row in done),
            keys=tuple(str(row["key"])[:KEY_DIGITS] for row in done),
            lacking={int(row["seed"]): row["status"] for row in members if row["status"] != "done"},
            metrics={
                name: Spread.of([float(value) for value in column if value is not None])
                for name, column in values.items()
                if column and all(value is not None and math.isfinite(value) for value in column)
            },
        )
        groups.append(group)
    return tuple(sorted(groups, key=lambda group: group.identity))


def _only(groups: Iterable[Group], pattern: str) -> tuple[Group, ...]:
    chosen = []
    for group in groups:
        name = f"{group.dataset}/{group.model}/{group.optimizer}"
        kept = [i for i, seed in enumerate(group.seeds) if fnmatchcase(f"{name}/{seed}", pattern)]
        lacking = {seed: why for seed, why in group.lacking.items() if fnmatchcase(f"{name}/{seed}", pattern)}
        if kept or lacking:
            part: dict[str, Any] = {
                "seeds": tuple(group.seeds[i] for i in kept),
                "keys": tuple(group.keys[i] for i in kept),
                "lacking": lacking,
                "metrics": {
                    name: Spread.of(spread.values[i] for i in kept) for name, spread in group.metrics.items() if kept
                },
            }
            chosen.append(group.model_copy(update=part))
    return tuple(chosen)


def as_json(baseline: Baseline) -> str:
    """Sorted, a line for each environment, trial and cell."""

    def lines(items: Iterable[Any]) -> str:
        rows = ",\n  ".join(json.dumps(item, allow_nan=False) for item in items)
        return f"[\n  {rows}\n ]" if rows else "[]"

    groups = {name: [_plain(group) for group in getattr(baseline, name)] for name in ("trials", "cells")}
    return (
        f'{{\n "format": {baseline.format},\n "suite": {json.dumps(baseline.suite)},\n'
        f' "environments": {lines(baseline.environments)},\n'
        f' "trials": {lines(groups["trials"])},\n "cells": {lines(groups["cells"])}\n}}\n'
    )


def _plain(group: Group) -> dict[str, Any]:
    plain = group.model_dump(mode="json", exclude_none=True)
    if not plain["lacking"]:
        del plain["lacking"]
    for spread in plain["metrics"].values():
        if len(set(spread["values"])) == 1:
            del spread["values"]
    return plain


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline.

    Raises:
        InputError: it cannot be written.
    """
    try:
        write_atomically(path.resolve(), as_json(baseline).encode())
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror or error}") from None


def read_baseline(path: Path) -> Baseline:
    """Read and check a baseline.

    Raises:
        InputError: anything wrong, in one line that names the file and the place.
    """
    try:
        data = json.loads(read_text(path, MAX_BYTES, "a baseline"), parse_constant=_refuse)
    except OSError as error:
        hint = "; name what sgabench baseline wrote" if path.is_dir() else ""
        if isinstance(error, FileNotFoundError):
            near = similar(path.name, (file.name for file in path.parent.glob("*.json")))
            hint = f"{near}; make one with sgabench baseline"
        raise InputError(f"--baseline {path}: {error.strerror or error}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"--baseline {path}: not JSON: {shorten(str(error), 200)}; name what sgabench baseline wrote"
        ) from None
    if not isinstance(data, Mapping) or "format" not in data or "suite" not in data:
        raise InputError(f"--baseline {path}: not a baseline; make one with sgabench baseline")
    if data["format"] != FORMAT:
        raise InputError(
            f"--baseline {path}: of format {shorten(data['format'])}, this sgabench reads {FORMAT}; "
            "make a new one with sgabench baseline"
        )
    try:
        _check_size(data)
        return Baseline.model_validate(data)
    except InputError as error:
        raise InputError(f"--baseline {path}: {error}") from None
    except ValidationError as error:
        where, problem = first_problem(error)
        place = ".".join(map(str, where))
        raise InputError(f"--baseline {path}: {place + ': ' if place else ''}{problem}") from None


def _check_size(data: Mapping[str, Any]) -> None:
    """Count the values before equal ones are expanded."""
    values = 0
    for kind in ("trials", "cells"):
        for number, group in enumerate(data[kind] if isinstance(data.get(kind), list) else ()):
            metrics = group.get("metrics") if isinstance(group, dict) else None
            for metric, spread in (metrics if isinstance(metrics, dict) else {}).items():
                if metric not in METRICS:
                    raise InputError(f"{kind}.{number}.metrics: unknown metric {shorten(metric)}")
                n = spread.get("n") if isinstance(spread, dict) else None
                values += n if isinstance(n, int) and 0 < n <= MAX_SEEDS else 0  # others are refused below
    if values > MAX_VALUES:
        raise InputError(f"{values} values of metrics; at most {MAX_VALUES} are possible")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
