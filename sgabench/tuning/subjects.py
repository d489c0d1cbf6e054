"""The subjects of tuning: optimizers of a suite, their given values and the ranges to search."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sgabench.errors import InputError
from sgabench.plugins import optimizers
from sgabench.suite.choices import Choice
from sgabench.suite.resolving import Suite
from sgabench.tuning.objective import DENSE, Objective

TUNED = ("lr", "weight_decay")

Values = Mapping[str, float]


@dataclass(frozen=True)
class Settings:
    """How to tune.

    Attributes:
        tries: trainings of each optimizer on each (data set, model, seed).
        validation_size: images held out of each training split; None: as in the suite, by default a tenth.
        seeds: of the trainings, and of the search.
        lr_factors: the learning rates searched, as factors of the given one.
        weight_decays: the weight decays searched, beside 0.
        objective: that tries are judged by.

    Raises:
        InputError: a value out of range.
    """

    tries: int = 20
    validation_size: int | None = None
    seeds: tuple[int, ...] = (1000,)
    lr_factors: tuple[float, float] = (0.01, 10.0)
    weight_decays: tuple[float, float] = (1e-5, 0.1)
    objective: Objective = DENSE

    def __post_init__(self) -> None:
        low, high = self.lr_factors
        if not (0 < low <= 1 <= high < math.inf):
            raise InputError(f"--lr-factors {low:g} {high:g}: must be LOW and HIGH with 0 < LOW <= 1 <= HIGH")
        low, high = self.weight_decays
        if not (0 < low <= high < math.inf):
            raise InputError(f"--weight-decays {low:g} {high:g}: must be LOW and HIGH with 0 < LOW <= HIGH")
        if len(set(self.seeds)) != len(self.seeds) or not all(0 <= seed < 2**63 for seed in self.seeds):
            raise InputError(f"--seed: {list(self.seeds)} must be different integers from 0 to 2**63 - 1")


@dataclass(frozen=True)
class Subject:
    """An optimizer to tune: the entries of a suite that differ in nothing but what is tuned.

    Attributes:
        members: the entries; the label is that of the first.
        positions: of the entries among the suite's optimizers.
        given: the values of each.
        ranges: lowest and highest value to search, by option; weight decay may also be 0.
    """

    members: tuple[Choice, ...]
    positions: tuple[int, ...]
    given: tuple[Values, ...]
    ranges: Mapping[str, tuple[float, float]]

    @property
    def label(self) -> str:
        """The label that it will have: values that are tuned are no part of it."""
        return re.sub(rf" ({'|'.join(TUNED)})=\S+", "", self.members[0].label)

    def with_values(self, values: Values) -> Choice:
        """The optimizer with other values."""
        first = self.members[0]
        plugin = optimizers[first.name]
        return replace(first, label=self.label, options=plugin.resolve({**first.options, **values}))


def find_subjects(suite: Suite, settings: Settings) -> list[Subject]:
    """The optimizers of a suite that have a learning rate or a weight decay to set.

    Raises:
        InputError: there is nothing to tune; a seed is one of the suite's; there are fewer tries than given values.
    """
    used = [seed for seed in settings.seeds if seed in suite.seeds]
    if used:
        raise InputError(f"--seed {used[0]}: is one of the suite's seeds, which are for the comparison; name another")
    groups: dict[str, list[tuple[int, Choice, Values]]] = {}
    for position, choice in enumerate(suite.optimizers):
        given = _given(choice)
        if given:
            identity = choice.identity()
            rest = {name: value for name, value in identity["options"].items() if name not in given}
            same = json.dumps([identity | {"options": rest}, sorted(given)], sort_keys=True)
            groups.setdefault(same, []).append((position, choice, given))
    if not groups:
        raise InputError(f"{suite.source}: no optimizer has an option {' or '.join(TUNED)}: there is nothing to tune")
    subjects = [_subject(group, settings) for group in groups.values()]
    for subject in subjects:
        if settings.tries < len(subject.given):
            raise InputError(
                f"--tries {settings.tries}: optimizer {subject.label!r} is given {len(subject.given)} values, which "
                f"are tried first; make it at least {len(subject.given)}"
            )
    return subjects


def _given(choice: Choice) -> Values:
    """The values of the options that can be tuned; those that were not set are read from the optimizer itself."""
    plugin = optimizers[choice.name]
    found = {name: choice.options[name] for name in TUNED if name in choice.options}
    if plugin.takes_any_option and len(found) < len(TUNED):
        from torch import nn

        from sgabench.running.preflight import input_errors_of
        from sgabench.training.building import build_optimizer

        with input_errors_of("optimizer", choice, True):
            defaults = build_optimizer(choice, nn.Linear(2, 2, bias=False), 0).param_groups[0]
        found = {name: defaults[name] for name in TUNED if name in defaults} | found
    numbers = {name: float(value) for name, value in found.items() if type(value) in (int, float)}
    return {name: value for name, value in numbers.items() if value > 0 or (name == "weight_decay" and value == 0)}


def _subject(group: Sequence[tuple[int, Choice, Values]], settings: Settings) -> Subject:
    positions, members, given = zip(*group, strict=True)
    ranges = {}
    for name in given[0]:
        positive = [values[name] for values in given if values[name] > 0]
        if name == "lr":
            low, high = settings.lr_factors
            ranges[name] = (low * min(positive), high * max(positive))
        else:
            low, high = settings.weight_decays
            ranges[name] = (min([low, *positive]), max([high, *positive]))
    return Subject(members, positions, given, ranges)


def in_words(values: Values) -> str:
    """``lr 0.01, weight_decay 0``."""
    return ", ".join(f"{name} {value:g}" for name, value in values.items())
