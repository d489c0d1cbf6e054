"""From entries of a suite to choices: sweeps expanded, options resolved, labels made unique."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from sgabench.errors import InputError, dotted, first_problem, shorten
from sgabench.plugins.registry import SECTIONS
from sgabench.suite.limits import check_variants, count_variants
from sgabench.suite.tables import Entry

MAX_LABEL = 500


@dataclass(frozen=True)
class Choice:
    """One variant of an entry, resolved: a part of a trial or cell.

    Attributes:
        name: the plugin's name.
        label: its name in tables, unique within its section.
        options: every option of the plugin, defaults filled in, as JSON values.
        code: identifies the plugin's code if it is not a built-in.
        settings: for sgabench itself (sizes of splits, recipe, fine-tuning, ...).
        tags: facts from the plugin's registration.
        revision: of the plugin.
    """

    name: str
    label: str
    options: Mapping[str, Any]
    code: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 1

    def identity(self) -> dict[str, Any]:
        """What enters keys: everything except the label, with the content of a data set instead of its path."""
        options = dict(self.options)
        if "content" in self.settings:
            options.pop("path", None)
        identity = {"name": self.name, "options": options, **self.settings}
        if self.revision != 1:  # left out, so that keys stay the same
            identity["revision"] = self.revision
        return {**identity, "code": self.code} if self.code else identity


def choices_of(section: str, entries: Sequence[Entry], settings: Any) -> tuple[Choice, ...]:
    """Every variant of a section's entries, in their order.

    Args:
        section: a registry's name, e.g. ``optimizers``.
        entries: as written.
        settings: makes the settings of an entry's variants.

    Raises:
        InputError: the message starts with the section and the entry.
    """
    choices: list[Choice] = []
    given: list[dict[str, Any]] = []
    places = [f"{section} {number} ({shorten(entry.name)[1:-1]})" for number, entry in enumerate(entries, start=1)]
    check_variants(section, [_variants(entry, where) for entry, where in zip(entries, places, strict=True)])
    for entry, where in zip(entries, places, strict=True):
        for combination in itertools.product(*entry.sweep.values()):
            swept = dict(zip(entry.sweep, combination, strict=True))
            try:
                choice, options = choice_of(section, entry, swept, settings)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            choices.append(choice)
            given.append(options)
    return _with_unique_labels(section, choices, given)


def _variants(entry: Entry, where: str) -> int:
    """Number of variants of an entry; its sweep is checked, but not expanded."""
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


def choice_of(section: str, entry: Entry, swept: Mapping[str, Any], settings: Any) -> tuple[Choice, dict[str, Any]]:
    """One variant of an entry, and the options that were given for it.

    Args:
        section, entry, settings: as for `choices_of`.
        swept: the values of this variant.

    Raises:
        InputError: without section and entry, which the caller knows.
    """
    declared = type(entry).model_fields
    own = {key: value for key, value in swept.items() if key in declared}
    if own.keys() & {"name", "label", "sweep"}:
        raise InputError(f"sweep.{next(iter(own))}: cannot be swept")
    if own:
        try:
            entry = type(entry).model_validate({**entry.model_dump(), **own})
        except ValidationError as error:
            path, problem = first_problem(error)
            raise InputError(f"{dotted(['sweep', *path])}: {problem}") from None
    plugin = SECTIONS[section][entry.name]
    options = {**(entry.model_extra or {}), **{k: v for k, v in swept.items() if k not in declared}}
    defaults = settings(entry)
    lr = defaults.get("training", {}).pop("lr", None)
    if lr is not None and "lr" not in options:
        if not (plugin.takes_any_option or "lr" in plugin.parameters):
            has = ", ".join(plugin.parameters) or "none"
            raise InputError(
                f"[training] lr {lr:g} cannot reach it: optimizer {plugin.name!r} has no option lr (its options: "
                f"{has}); write lr into the entries of the optimizers that have one, instead of [training] lr"
            )
        options["lr"] = lr
    resolved = plugin.resolve(options, also_valid=declared)
    plugin.check_use(resolved, defaults)
    suffix = "".join(f" {key}={_plain(value)}" for key, value in swept.items())
    label = (entry.label or entry.name) + suffix
    choice = Choice(plugin.name, label, resolved, plugin.origin.code, defaults, plugin.tags, plugin.revision)
    return choice, options


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_plain(item)}" for name, item in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with_unique_labels(section: str, choices: list[Choice], given: list[dict[str, Any]]) -> tuple[Choice, ...]:
    """Make labels of entries with the same name unique by the options that were given for them."""
    seen: set[str] = set()
    for choice in choices:
        identity = json.dumps(choice.identity(), sort_keys=True)
        if identity in seen:
            raise InputError(f"{section}: {choice.label!r} appears twice with the same options; remove one")
        seen.add(identity)
    count = Counter(choice.label for choice in choices)
    labelled = []
    for choice, options in zip(choices, given, strict=True):
        label = choice.label
        if count[label] > 1:
            label += "".join(f" {k}={_plain(v)}" for k, v in options.items() if f" {k}=" not in label)
        labelled.append(replace(choice, label=label))
    for choice in labelled:  # labels include values of sweeps
        if not choice.label.isprintable() or len(choice.label) > MAX_LABEL:
            raise InputError(f"{section}: {shorten(choice.label)} cannot be shown in a table; give it a label")
    twice = [label for label, n in Counter(c.label for c in labelled).items() if n > 1]
    if twice:
        raise InputError(f"{section}: {twice[0]!r} names two different entries; give each a label of its own")
    return tuple(labelled)
