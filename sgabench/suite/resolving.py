"""Read and check a suite file, before anything is computed."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sgabench.errors import InputError, dotted, first_problem, shorten, suggestion
from sgabench.plugins.registry import SECTIONS
from sgabench.suite.checkpoints import Checkpoint, check_checkpoints, checkpoints_of
from sgabench.suite.choices import Choice, choices_of
from sgabench.suite.limits import MAX_SUITE_BYTES, check_text, check_values
from sgabench.suite.overrides import apply_override
from sgabench.suite.question import QuestionTable, SeedRange, read_range
from sgabench.suite.rules import GateTable
from sgabench.suite.schedules import effective
from sgabench.suite.shipped import located, shipped_suites
from sgabench.suite.tables import DatasetEntry, Entry, Measurement, PrunerEntry, SuiteFile, recipe_settings

SUITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
TAKEN_NAMES = re.compile(r"weights|lost|snapshots|brought|(store|tuning)\.sqlite.*")


@dataclass(frozen=True)
class Suite:
    """A checked suite: every entry resolved, every sweep expanded.

    Attributes:
        folder: of its leaderboard, in the results folder: the name, with a hash if ``--set`` changed the file, so that
            experiments do not replace the leaderboard of the file.
        looks_folder: likewise for the looks at it, which other seeds do not change.
        overrides: the settings of ``--set``.
    """

    name: str
    description: str
    source: Path
    seeds: tuple[int, ...]
    measurement: Measurement
    datasets: tuple[Choice, ...]
    models: tuple[Choice, ...]
    optimizers: tuple[Choice, ...]
    pruners: tuple[Choice, ...]
    probes: tuple[Choice, ...]
    checkpoints: tuple[Checkpoint, ...] = ()
    gate: GateTable = field(default_factory=GateTable)
    question: QuestionTable = field(default_factory=QuestionTable)
    rounds: SeedRange | None = None
    folder: str = ""
    looks_folder: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """Labels of what is compared: optimizers, then checkpoints."""
        labels = [choice.label for choice in self.optimizers] + [checkpoint.label for checkpoint in self.checkpoints]
        return tuple(dict.fromkeys(labels))


def load_suite(path: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Read and check a suite file.

    Args:
        path: the TOML file, or the name of a suite that comes with the package, such as ``quickstart``.
        overrides: ``key=value`` settings as for ``--set``, e.g. ``training.epochs=2`` or ``optimizers.adam.lr=0.1``.

    Raises:
        InputError: anything wrong, in one line that names file, key, value and what is valid.
    """
    path = located(Path(path))
    try:
        text = read_text(path, MAX_SUITE_BYTES, "a suite")
        check_text(text)
        data = tomllib.loads(text)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError) and path.parent.is_dir()
        hint = suggestion(path.name, (p.name for p in path.parent.glob("*.toml"))) if missing else ""
        if missing and not path.suffix:
            hint = f"; suites that come with sgabench: {', '.join(shipped_suites())}"
        raise InputError(f"{path}: {error.strerror or error}{hint}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except ValueError as error:  # from the decoder or TOML, or for a number with thousands of digits
        raise InputError(f"{path}: not a TOML file: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: not a suite: nested too deeply") from None
    for override in overrides:
        apply_override(data, override)
    try:
        suite = replace(resolve(data, path), overrides=tuple(overrides))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    written = tomllib.loads(text) if overrides else data
    if written.get("name", path.stem) != suite.name:
        return suite  # an own name means an own folder
    seeds_aside = [{key: value for key, value in of.items() if key != "seeds"} for of in (written, data)]
    of_looks = _folder(suite.name, *seeds_aside)
    same_seeds = written.get("seeds") == data.get("seeds")
    return replace(suite, folder=of_looks if same_seeds else _folder(suite.name, written, data), looks_folder=of_looks)


def _folder(name: str, written: Mapping[str, Any], changed: Mapping[str, Any]) -> str:
    """The name, followed by six digits of a hash if the suite was changed."""
    before, after = (json.dumps(data, sort_keys=True, default=str) for data in (written, changed))
    return name if before == after else f"{name}-{hashlib.sha256(after.encode()).hexdigest()[:6]}"


def read_text(path: Path, most: int, what: str) -> str:
    """The text of a regular file of limited size.

    Raises:
        OSError: it cannot be read, is a device or a pipe, or is larger.
        UnicodeDecodeError: it is not text.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most // 10**6} MB: not {what}")
    return content.decode("utf-8-sig")


def resolve(data: Mapping[str, Any], source: Path) -> Suite:
    """Check a suite's data and resolve it against the registries.

    Raises:
        InputError: without the file's name, which the caller knows.
    """
    check_values(data)
    rounds = None
    if isinstance(data.get("seeds"), Mapping):
        rounds = read_range(data["seeds"])
        data = {**data, "seeds": list(range(rounds.last))}
    try:
        written = SuiteFile.model_validate(data)
    except ValidationError as error:
        raise InputError(_sentence(error, data)) from None
    name = written.name or source.stem
    if not SUITE_NAME.fullmatch(name) or TAKEN_NAMES.fullmatch(name):
        raise InputError(
            f"name: {shorten(name)} cannot name a folder of results; set name = \"...\" of letters, digits, '.', '_' "
            "and '-', and not a name that the store uses"
        )
    recipe = written.training
    models = choices_of("models", written.models, lambda entry: {})
    suite = Suite(
        name=name,
        description=written.description,
        source=source,
        seeds=written.seeds,
        measurement=written.measurement,
        datasets=choices_of("datasets", written.datasets, _dataset_settings),
        models=models,
        optimizers=choices_of("optimizers", written.optimizers, lambda entry: recipe_settings(entry, recipe)),
        pruners=choices_of("pruners", written.pruners, lambda entry: _pruner_settings(entry, written.ratios)),
        probes=choices_of("probes", written.probes, lambda entry: {}),
        checkpoints=checkpoints_of(written.checkpoints, models, recipe, source.parent),
        gate=written.gate,
        question=written.question,
        rounds=rounds,
        folder=name,
        looks_folder=name,
    )
    _check_schedules(suite)
    ratios = {choice.label: list(choice.settings["ratios"]) for choice in suite.pruners}
    check_checkpoints(suite.checkpoints, suite.optimizers, suite.pruners, rounds)
    suite.question.check(list(suite.arms), ratios)
    return suite


def resolve_datasets(tables: Sequence[Mapping[str, Any]]) -> tuple[Choice, ...]:
    """Check and resolve entries of ``[[datasets]]``.

    Raises:
        InputError: anything wrong.
    """
    check_values({"datasets": list(tables)})
    try:
        entries = [DatasetEntry.model_validate(table) for table in tables]
    except ValidationError as error:
        path, problem = first_problem(error)
        raise InputError(f"{dotted(path)}: {problem}") from None
    return choices_of("datasets", entries, _dataset_settings)


def _sentence(error: ValidationError, data: Mapping[str, Any]) -> str:
    """The first error about a suite's own keys: where and what."""
    path, problem = first_problem(error)
    if len(path) == 1 and path[0] in SECTIONS and isinstance(data.get(str(path[0])), dict):
        return f"{path[0]}: is a table; write [[{path[0]}]] for each entry"
    if problem.startswith("unknown key"):
        model: Any = SuiteFile
        for part in path[:-1]:
            info = model.model_fields.get(part) if isinstance(part, str) and hasattr(model, "model_fields") else None
            model = info.annotation if info else model
        if hasattr(model, "model_fields"):
            problem = "unknown key" + suggestion(str(path[-1]), model.model_fields)
    return f"{_where(path, data)}: {problem}"


def _where(path: tuple[Any, ...], data: Mapping[str, Any]) -> str:
    """A readable path: ``optimizers 2 (adam): lr``."""
    if not path:
        return "suite"
    parts: list[str] = []
    rest = list(path)
    if len(rest) > 1 and isinstance(rest[1], int) and rest[0] in (*SECTIONS, "checkpoints"):
        entries = data.get(rest[0])
        entry = entries[rest[1]] if isinstance(entries, list) and rest[1] < len(entries) else None
        name = (entry.get("name") or entry.get("label")) if isinstance(entry, dict) else None
        named = f" ({name})" if isinstance(name, str) else ""
        parts.append(f"{rest[0]} {rest[1] + 1}{named}")
        rest = rest[2:]
    return ": ".join([*parts, dotted(rest)] if rest else parts)


def _dataset_settings(entry: DatasetEntry) -> dict[str, Any]:
    settings: dict[str, Any] = {"train_size": entry.train_size, "validation_size": entry.validation_size}
    if entry.test_size is not None:
        settings["test_size"] = entry.test_size
    if entry.centre_crop is not None:
        settings["centre_crop"] = entry.centre_crop
    if entry.normalize != "data":
        settings["normalize"] = entry.model_dump(mode="json")["normalize"]
    return settings


def _pruner_settings(entry: PrunerEntry, ratios: tuple[float, ...]) -> dict[str, Any]:
    settings = entry.model_dump(mode="json", include=set(PrunerEntry.model_fields) - set(Entry.model_fields))
    settings["schedule"] = effective(entry.schedule)
    if settings["schedule"] is None:  # left out, so that keys stay as before there were schedules
        del settings["schedule"]
    if entry.finetune is not None and entry.finetune.distill is None:
        del settings["finetune"]["distill"]
    return {**settings, "ratios": list(entry.ratios or ratios)}


def _check_schedules(suite: Suite) -> None:
    """Refuse schedules for pruners that prune at once, and rewinding to epochs that a training does not reach."""
    for pruner in suite.pruners:
        if pruner.settings.get("schedule") and not pruner.tags.get("schedules"):
            raise InputError(
                f"pruners: {pruner.label!r}: schedule: {pruner.name!r} prunes in one step; only scores have schedules"
            )
    for pruner, optimizer in itertools.product(suite.pruners, suite.optimizers):
        schedule, epochs = pruner.settings.get("schedule") or {}, optimizer.settings["training"]["epochs"]
        if schedule.get("to", 0) >= epochs:
            raise InputError(
                f"pruners: {pruner.label!r}: schedule.to: must be below the epochs of optimizer "
                f"{optimizer.label!r} ({epochs}), got {schedule['to']}"
            )
