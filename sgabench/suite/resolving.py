"""TOML to `Suite`: what the user asks for, checked before anything is computed."""

from __future__ import annotations

import errno
import itertools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sgabench.errors import InputError, first_problem, shorten, suggestion
from sgabench.plugins.registry import REGISTRIES, Registry
from sgabench.suite.limits import (
    MAX_LIST,
    MAX_SEEDS,
    MAX_SUITE_BYTES,
    check_text,
    check_values,
    check_variants,
    count_variants,
)
from sgabench.suite.question import QuestionTable, SeedRange, read_range
from sgabench.suite.rules import METRICS, GateTable

Ratio = Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)]
MAX_LABEL = 500
SUITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
TAKEN_NAMES = re.compile(r"weights|lost|snapshots|(store|tuning)\.sqlite.*")


def _check_label(label: str) -> str:
    if not label.isprintable() or "/" in label:
        raise ValueError(f"a label is printable text without '/', got {shorten(label)}")
    return label


Label = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_check_label)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class Recipe(_Table):
    """How every network of a suite is trained; an optimizer may override parts of it."""

    epochs: int = Field(strict=True, default=10, ge=1, le=100_000, description="Passes over the training split.")
    batch_size: int = Field(
        strict=True, default=128, ge=2, le=2**31, description="Images in a step; a last smaller batch is left out."
    )
    lr: float | None = Field(
        strict=True, default=None, gt=0, description="Learning rate of every optimizer that does not set its own."
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="bf16: autocast; a CPU without bf16 instructions uses fp32, and the record says so.",
    )
    schedule: Literal["constant", "cosine", "step", "one-cycle"] = Field(
        default="constant", description="How the learning rate changes over the steps."
    )
    warmup_epochs: float = Field(strict=True, default=0.0, ge=0, description="Epochs of linear warm-up from zero.")
    step_milestones: tuple[Annotated[float, Field(strict=True, gt=0, lt=1)], ...] = Field(
        default=(0.5, 0.75),
        max_length=MAX_LIST,
        description="Of schedule 'step': fractions of the training after which the rate drops.",
    )
    step_factor: float = Field(
        strict=True, default=0.1, gt=0, lt=1, description="Of schedule 'step': factor of each drop."
    )
    label_smoothing: float = Field(
        strict=True, default=0.0, ge=0, lt=1, description="Label smoothing of the cross-entropy."
    )
    augmentation: tuple[Literal["crop", "flip"], ...] = Field(
        default=(),
        description="crop: pad and crop at random; flip: left-right with probability 1/2.",
    )
    crop_padding: int = Field(
        strict=True, default=4, ge=1, le=10_000, description="Of augmentation 'crop': pixels added to each side."
    )
    weight_averaging: Literal["off", "ema"] = Field(
        default="off", description="ema: measure an exponential moving average of the weights."
    )
    ema_decay: float = Field(
        strict=True, default=0.999, gt=0, lt=1, description="Of weight averaging 'ema': decay a step."
    )
    deterministic: bool = Field(
        strict=True,
        default=False,
        description="Refuse operations that need not give the same bits at every run.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be smaller than epochs ({self.epochs})")
        if self.warmup_epochs > 0 and self.schedule == "one-cycle":
            raise ValueError("warmup_epochs: schedule 'one-cycle' has a warm-up of its own; leave one out")
        if len(set(self.augmentation)) != len(self.augmentation):
            raise ValueError(f"augmentation names one twice: {list(self.augmentation)}")
        if list(self.step_milestones) != sorted(set(self.step_milestones)):
            raise ValueError(f"step_milestones must increase: {list(self.step_milestones)}")
        return self

    def effective(self) -> dict[str, Any]:
        """What has an effect, as JSON values: the rest must not change a key."""
        idle = {
            "step_milestones": self.schedule != "step",
            "step_factor": self.schedule != "step",
            "crop_padding": "crop" not in self.augmentation,
            "ema_decay": self.weight_averaging == "off",
            "deterministic": not self.deterministic,
        }
        return self.model_dump(mode="json", exclude={name for name, unused in idle.items() if unused})


class Finetuning(_Table):
    """Training after pruning; zeros stay zero."""

    epochs: int = Field(strict=True, ge=1, description="Passes over the training split.")
    lr: float | None = Field(
        strict=True, default=None, gt=0, description="Learning rate; default: a tenth of the optimizer's."
    )


class Measurement(_Table):
    """What is measured beside accuracy and size."""

    throughput: bool = Field(strict=True, default=True, description="Time the inference of dense and pruned networks.")
    batch_size: int = Field(
        strict=True, default=256, ge=1, le=2**31, description="Large batch of the throughput; latency is of batch 1."
    )
    min_run_time: float = Field(
        strict=True, default=0.3, gt=0, le=60, description="Seconds that each timing lasts at least."
    )


class _Entry(BaseModel):
    """A plugin by name; keys that are not declared here are options of the plugin."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    name: str = Field(min_length=1, description="The plugin, e.g. 'adam' or 'torch:AdamW'.")
    label: Label | None = Field(default=None, description="What tables call it.")
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default_factory=dict, description="Option = list of values: one entry for every combination."
    )


class DatasetEntry(_Entry):
    train_size: int | None = Field(
        strict=True, default=None, ge=1, le=2**40, description="Use only so many training images."
    )
    validation_size: int = Field(
        strict=True, default=0, ge=0, le=2**40, description="Images taken from the training split for validation."
    )
    test_size: int | None = Field(
        strict=True, default=None, ge=1, le=2**40, description="Use only so many test images."
    )


class ModelEntry(_Entry):
    pass


class OptimizerEntry(_Entry):
    training: dict[str, Any] = Field(default_factory=dict, description="Parts of [training] that differ.")


class PrunerEntry(_Entry):
    ratios: tuple[Ratio, ...] | None = Field(
        default=None, max_length=MAX_LIST, description="Ratios of this pruner; default: the suite's."
    )
    include_input: bool = Field(strict=True, default=False, description="Prune the layer that sees the image, too.")
    include_classifier: bool = Field(
        strict=True, default=False, description="Prune the layer that gives the logits, too."
    )
    reestimate_bn: bool = Field(
        strict=True, default=False, description="Estimate the BatchNorm statistics anew, on training images."
    )
    finetune: Finetuning | None = Field(default=None, description="Train on after pruning.")

    @field_validator("ratios")
    @classmethod
    def _different(cls, ratios: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if ratios is None else check_list(ratios)


class ProbeEntry(_Entry):
    pass


class SuiteFile(_Table):
    """A suite as it is written; the JSON Schema that editors use is made of this."""

    name: str | None = Field(
        default=None,
        description="Name of the results folder; default: the file's name.",
    )
    description: str = Field(default="", description="A line for reports.")
    seeds: tuple[Annotated[int, Field(strict=True, ge=0, lt=2**63)], ...] = Field(
        default=(0, 1, 2),
        max_length=MAX_SEEDS,
        description="One training for each; or {from = 3, to = 30}: rounds until every question is decided.",
        json_schema_extra=lambda schema: schema.update(anyOf=[dict(schema), SeedRange.model_json_schema()]),
    )
    ratios: tuple[Ratio, ...] = Field(
        default=(0.5,), max_length=MAX_LIST, description="Ratios of every pruner without its own."
    )
    training: Recipe = Recipe()
    measurement: Measurement = Measurement()
    gate: GateTable = Field(default=GateTable(), description="What sgabench check calls a regression.")
    question: QuestionTable = Field(default=QuestionTable(), description="What the verdicts are about.")
    datasets: Annotated[tuple[DatasetEntry, ...], Field(min_length=1)]
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]
    optimizers: Annotated[tuple[OptimizerEntry, ...], Field(min_length=1)]
    pruners: Annotated[tuple[PrunerEntry, ...], Field(min_length=1)]
    probes: tuple[ProbeEntry, ...] = (ProbeEntry(name="weights"),)

    @field_validator("seeds", "ratios")
    @classmethod
    def _different(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return check_list(values)


@dataclass(frozen=True)
class Choice:
    """One variant of an entry, resolved: what a trial or a cell is made with.

    Attributes:
        name: the plugin's name.
        label: what tables call it, unique within its section.
        options: every option of the plugin, defaults filled in, as JSON values.
        code: identifies the plugin's code where it is not a built-in.
        settings: what sgabench itself does with it (sizes of splits, recipe, fine-tuning, ...).
        tags: facts from the plugin's registration.
    """

    name: str
    label: str
    options: Mapping[str, Any]
    code: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """What enters a key: everything but the label, and the content of a data set instead of its path."""
        options = dict(self.options)
        if "content" in self.settings:
            options.pop("path", None)
        identity = {"name": self.name, "options": options, **self.settings}
        return {**identity, "code": self.code} if self.code else identity


@dataclass(frozen=True)
class Suite:
    """A checked suite: every entry resolved, every sweep multiplied out."""

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
    gate: GateTable = field(default_factory=GateTable)
    question: QuestionTable = field(default_factory=QuestionTable)
    rounds: SeedRange | None = None


def check_list(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a list that is empty or names something twice."""
    if not values:
        raise ValueError("the list is empty")
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is there twice")
    return values


def load_suite(path: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Read and check a suite file.

    Args:
        path: the TOML file.
        overrides: ``key=value`` settings as of ``--set``, e.g. ``training.epochs=2`` or
            ``optimizers.adam.lr=0.1``.

    Raises:
        InputError: anything wrong, in one line that names file, key, value and what is valid.
    """
    path = Path(path)
    try:
        text = read_text(path, MAX_SUITE_BYTES, "a suite")
        check_text(text)
        data = tomllib.loads(text)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError) and path.parent.is_dir()
        hint = suggestion(path.name, (p.name for p in path.parent.glob("*.toml"))) if missing else ""
        raise InputError(f"{path}: {error.strerror or error}{hint}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except ValueError as error:  # of the decoder, of TOML, or a number of thousands of digits
        raise InputError(f"{path}: not a TOML file: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: not a suite: nested too deeply") from None
    for override in overrides:
        apply_override(data, override)
    try:
        return resolve(data, path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_text(path: Path, most: int, what: str) -> str:
    """The text of a regular file of at most so many bytes.

    Raises:
        OSError: it cannot be read, is a device or a pipe, or is larger.
        UnicodeDecodeError: it is no text.
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
    suite = Suite(
        name=name,
        description=written.description,
        source=source,
        seeds=written.seeds,
        measurement=written.measurement,
        datasets=_choices("datasets", written.datasets, _dataset_settings),
        models=_choices("models", written.models, lambda entry: {}),
        optimizers=_choices("optimizers", written.optimizers, lambda entry: _recipe_settings(entry, recipe)),
        pruners=_choices("pruners", written.pruners, lambda entry: _pruner_settings(entry, written.ratios)),
        probes=_choices("probes", written.probes, lambda entry: {}),
        gate=written.gate,
        question=written.question,
        rounds=rounds,
    )
    ratios = {choice.label: list(choice.settings["ratios"]) for choice in suite.pruners}
    suite.question.check([choice.label for choice in suite.optimizers], ratios)
    return suite


def _sentence(error: ValidationError, data: Mapping[str, Any]) -> str:
    """Where and what, for the first complaint about a suite's own keys."""
    path, problem = first_problem(error)
    if len(path) == 1 and path[0] in REGISTRIES and isinstance(data.get(str(path[0])), dict):
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
    """A path that a user can follow: ``optimizers 2 (adam): lr``."""
    if not path:
        return "suite"
    parts: list[str] = []
    rest = list(path)
    if len(rest) > 1 and isinstance(rest[1], int) and rest[0] in REGISTRIES:
        entries = data.get(rest[0])
        entry = entries[rest[1]] if isinstance(entries, list) and rest[1] < len(entries) else None
        named = f" ({entry['name']})" if isinstance(entry, dict) and isinstance(entry.get("name"), str) else ""
        parts.append(f"{rest[0]} {rest[1] + 1}{named}")
        rest = rest[2:]
    dotted = ".".join(str(part) for part in rest)
    return ": ".join([*parts, dotted] if dotted else parts)


def _choices(section: str, entries: Sequence[_Entry], settings: Any) -> tuple[Choice, ...]:
    registry = REGISTRIES[section]
    choices: list[Choice] = []
    given: list[dict[str, Any]] = []
    places = [f"{section} {number} ({shorten(entry.name)[1:-1]})" for number, entry in enumerate(entries, start=1)]
    check_variants(section, [_variants(entry, where) for entry, where in zip(entries, places, strict=True)])
    for entry, where in zip(entries, places, strict=True):
        for combination in itertools.product(*entry.sweep.values()):
            swept = dict(zip(entry.sweep, combination, strict=True))
            try:
                choice, options = _choice(registry, entry, swept, settings)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            choices.append(choice)
            given.append(options)
    return _with_unique_labels(section, choices, given)


def _variants(entry: _Entry, where: str) -> int:
    """How many variants an entry has; its sweep is looked at, but not multiplied out."""
    try:
        number = count_variants(entry.sweep, {**entry.model_dump(exclude={"sweep"}), **(entry.model_extra or {})})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    for key, values in entry.sweep.items():
        if key in (entry.model_extra or {}):
            raise InputError(f"{where}: {key}: is set and swept; leave one out")
        if any(value in values[:i] for i, value in enumerate(values)):
            raise InputError(f"{where}: sweep.{key}: names a value twice: {shorten(values)}")
    return number


def _choice(
    registry: Registry, entry: _Entry, swept: Mapping[str, Any], settings: Any
) -> tuple[Choice, dict[str, Any]]:
    """One variant of an entry, and the options that were written for it."""
    declared = type(entry).model_fields
    own = {key: value for key, value in swept.items() if key in declared}
    if own.keys() & {"name", "label", "sweep"}:
        raise InputError(f"sweep.{next(iter(own))}: cannot be swept")
    if own:
        try:
            entry = type(entry).model_validate({**entry.model_dump(), **own})
        except ValidationError as error:
            path, problem = first_problem(error)
            raise InputError(f"sweep.{'.'.join(map(str, path))}: {problem}") from None
    plugin = registry[entry.name]
    options = {**(entry.model_extra or {}), **{k: v for k, v in swept.items() if k not in declared}}
    defaults = settings(entry)
    lr = defaults.get("training", {}).pop("lr", None)
    if lr is not None and "lr" not in options and (plugin.takes_any_option or "lr" in plugin.parameters):
        options["lr"] = lr
    resolved = plugin.resolve(options, also_valid=declared)
    suffix = "".join(f" {key}={_plain(value)}" for key, value in swept.items())
    label = (entry.label or entry.name) + suffix
    choice = Choice(plugin.name, label, resolved, plugin.origin.code, defaults, plugin.tags)
    return choice, options


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with_unique_labels(section: str, choices: list[Choice], given: list[dict[str, Any]]) -> tuple[Choice, ...]:
    """Tell entries of the same name apart by the options that were written for them."""
    seen: set[str] = set()
    for choice in choices:
        identity = json.dumps(choice.identity(), sort_keys=True)
        if identity in seen:
            raise InputError(f"{section}: {choice.label!r} is there twice with the same options; remove one")
        seen.add(identity)
    count = Counter(choice.label for choice in choices)
    labelled = []
    for choice, options in zip(choices, given, strict=True):
        label = choice.label
        if count[label] > 1:
            label += "".join(f" {k}={_plain(v)}" for k, v in options.items() if f" {k}=" not in label)
        labelled.append(Choice(choice.name, label, choice.options, choice.code, choice.settings, choice.tags))
    for choice in labelled:  # values of a sweep are part of them
        if not choice.label.isprintable() or len(choice.label) > MAX_LABEL:
            raise InputError(f"{section}: {shorten(choice.label)} cannot be shown in a table; give it a label")
    twice = [label for label, n in Counter(c.label for c in labelled).items() if n > 1]
    if twice:
        raise InputError(f"{section}: {twice[0]!r} names two different entries; give each a label of its own")
    return tuple(labelled)


def _dataset_settings(entry: DatasetEntry) -> dict[str, Any]:
    sizes = {"train_size": entry.train_size, "validation_size": entry.validation_size}
    return sizes if entry.test_size is None else {**sizes, "test_size": entry.test_size}


def _recipe_settings(entry: OptimizerEntry, recipe: Recipe) -> dict[str, Any]:
    """The suite's recipe with the optimizer's overrides."""
    try:
        own = Recipe.model_validate({**recipe.model_dump(), **entry.training})
    except ValidationError as error:
        path, problem = first_problem(error, Recipe.model_fields)
        raise InputError(".".join(["training", *map(str, path)]) + f": {problem}") from None
    return {"training": own.effective()}


def _pruner_settings(entry: PrunerEntry, ratios: tuple[float, ...]) -> dict[str, Any]:
    settings = entry.model_dump(mode="json", include=set(PrunerEntry.model_fields) - set(_Entry.model_fields))
    return {**settings, "ratios": list(entry.ratios or ratios)}


def apply_override(data: dict[str, Any], override: str) -> None:
    """Apply one ``key=value`` of ``--set`` to a suite's data, in place.

    The key is a dotted path; an entry of an array is picked by its label, its name or its number
    (from 1). The value is TOML; what is not valid TOML is taken as a string.

    Raises:
        InputError: no ``=``, or a path that leads nowhere.
    """
    key, equals, text = override.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise InputError(f"--set {override}: must be KEY=VALUE, e.g. training.epochs=2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    targets: list[Any] = [data]
    for position, part in enumerate(path[:-1]):
        found = [child for target in targets for child in _children(target, part)]
        if not found:
            names = [name for target in targets for name in _names(target)]
            where = ".".join(path[: position + 1])
            raise InputError(f"--set {override}: there is no {where!r}{suggestion(part, names)}")
        targets = found
    for target in targets:
        if not isinstance(target, dict):
            raise InputError(f"--set {override}: {'.'.join(path[:-1])!r} has no keys of its own")
        target[path[-1]] = value


def _children(target: Any, part: str) -> list[Any]:
    if isinstance(target, dict):
        if part in ("training", "measurement", "sweep", "finetune", "gate", *METRICS):
            return [target.setdefault(part, {})]
        return [target[part]] if part in target else []
    if isinstance(target, list):
        tables = [entry for entry in target if isinstance(entry, dict)]
        named = [entry for entry in tables if part in (entry.get("label"), entry.get("name"))]
        if not named and part.isdecimal() and 1 <= int(part) <= len(target):
            return [target[int(part) - 1]]
        return named
    return []


def _names(target: Any) -> list[str]:
    if isinstance(target, dict):
        return [str(key) for key in target]
    if isinstance(target, list):
        return [str(e.get("label") or e.get("name")) for e in target if isinstance(e, dict)]
    return []


def json_schema() -> dict[str, Any]:
    """JSON Schema of a suite file."""
    schema = SuiteFile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "sgabench suite"
    return schema
