"""The tries: suggested by Optuna, trained, and kept in a study each, so that none is made twice."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from sgabench.errors import InputError, describe, foreign
from sgabench.running.options import Options
from sgabench.store.store import Store
from sgabench.suite.contents import with_content
from sgabench.suite.plan import TrialPlan, content_key
from sgabench.suite.resolving import Suite
from sgabench.suite.revisions import network_revisions, training_revision
from sgabench.system.seeds import derive_seed
from sgabench.tuning.subjects import Settings, Subject, Values, in_words

if TYPE_CHECKING:
    from sgabench.training.progress import Progress
    from sgabench.tuning.validation import Validation

# Raised when a change of sgabench makes the same search give other tries.
SEARCH_VERSION = 1
DIGITS = 3
STUDIES = "tuning.sqlite"

optuna.logging.set_verbosity(optuna.logging.WARNING)


class TryFailed(RuntimeError):
    """A training of a try raised something; the message says which."""


@dataclass(frozen=True)
class Try:
    """Values, and what came of them.

    Attributes:
        number: from 1.
        values: by option.
        top1: value of the objective, mean over data sets, models and seeds, a fraction; a training that diverged
            counts as 0.
        diverged: number of trainings that diverged.
        stored: whether it was made by an earlier run.
    """

    number: int
    values: Values
    top1: float
    diverged: int
    stored: bool = False


@dataclass(frozen=True)
class Tuned:
    """An optimizer with its tries, the first of which are the given values."""

    subject: Subject
    tries: tuple[Try, ...]

    @property
    def chosen(self) -> Try:
        """The best try; the earliest among equals, so that nothing is changed for nothing."""
        return max(self.tries, key=lambda attempt: attempt.top1)


class Listener:
    """Receives the progress of a tuning; its methods do nothing."""

    def started(self, subjects: Sequence[Subject], settings: Settings, validation: Validation) -> None:
        """The input has been checked; the first try begins."""

    def progressed(self, trial: TrialPlan, progress: Progress) -> None:
        """A training goes on."""

    def tried(self, subject: Subject, attempt: Try) -> None:
        """A try is stored, now or by an earlier run."""


def tune_subjects(
    subjects: Sequence[Subject], suite: Suite, settings: Settings, options: Options, listener: Listener
) -> tuple[list[Tuned], str]:
    """Try what the results folder does not have yet, one optimizer after the other.

    Returns:
        Every optimizer with its tries, and a description of the images that they were judged on.

    Raises:
        InputError: bad input, found before the first try.
        TryFailed: a training raised an exception.
    """
    from sgabench.tuning.validation import prepare_validation

    with Store(options.results, create=True) as store, store.writing():
        validation = prepare_validation(suite, settings.seeds, settings.validation_size, options, settings.objective)
        _check(subjects, validation)
        storage = _open(options.results / STUDIES)
        listener.started(subjects, settings, validation)
        try:
            tuned = [_tune_one(subject, settings, validation, storage, listener) for subject in subjects]
        except (StorageInternalError, SQLAlchemyError) as error:
            raise InputError(f"{options.results / STUDIES}: cannot be read or written: {describe(error)}") from error
    return tuned, validation.held_out()


def _check(subjects: Sequence[Subject], validation: Validation) -> None:
    """Build every optimizer as it is given, and at both ends of its ranges, where a plugin may refuse it."""
    validation.check([choice for subject in subjects for choice in subject.members])
    ends = [
        (subject, {name: limits[end] for name, limits in subject.ranges.items()})
        for subject in subjects
        for end in (0, 1)
    ]
    try:
        validation.check([subject.with_values(values) for subject, values in ends])
    except InputError as error:
        raise InputError(f"{error}; to avoid searching there, change --lr-factors or --weight-decays") from error


def _tune_one(
    subject: Subject, settings: Settings, validation: Validation, storage: RDBStorage, listener: Listener
) -> Tuned:
    study = optuna.create_study(
        storage=storage, study_name=study_key(subject, validation), direction="maximize", load_if_exists=True
    )
    made = _stored(study)[: settings.tries]
    tries = []
    for number in range(settings.tries):
        stored = number < len(made)
        if not stored:
            values = (
                subject.given[number]
                if number < len(subject.given)
                else suggest(made, subject.ranges, derive_seed(settings.seeds[0], "tuning", number))
            )
            study.add_trial(_make(number, values, subject, validation, listener))
            made = _stored(study)
        tries.append(_as_try(made[number], number, subject, stored))
        listener.tried(subject, tries[-1])
    return Tuned(subject, tuple(tries))


def study_key(subject: Subject, validation: Validation) -> str:
    """Content hash of all that determines the tries; their number is not part of it, so that more can follow."""
    first = with_content("optimizer", subject.members[0], validation.options.data).identity()
    options = {name: value for name, value in first["options"].items() if name not in subject.ranges}
    return content_key(
        {
            "version": SEARCH_VERSION,
            "optimizer": {**first, "options": options},
            "given": [dict(values) for values in subject.given],
            "ranges": {name: list(limits) for name, limits in subject.ranges.items()},
            "on": [[trial.dataset.identity(), trial.model.identity(), trial.seed] for trial in validation.trials],
            **training_revision(),
            **({} if validation.objective.ratio is None else _of_pruning(validation)),
        }
    )


def _of_pruning(validation: Validation) -> dict[str, Any]:
    """What determines the tries where networks are pruned before they are measured."""
    of_networks = {trial.model.label: network_revisions(trial.model) for trial in validation.trials}
    revised = {label: revisions for label, revisions in of_networks.items() if revisions}
    return {"objective": str(validation.objective), **({"revisions": revised} if revised else {})}


def suggest(made: Sequence[FrozenTrial], ranges: Mapping[str, tuple[float, float]], seed: int) -> dict[str, float]:
    """The next values, a function of the tries so far and the seed alone: stopping changes nothing.

    Args:
        made: the tries so far.
        ranges: lowest and highest value by option.
        seed: of this suggestion.
    """
    # A study does not store the sampler's state, so each suggestion uses a new sampler.
    sampler = optuna.samplers.TPESampler(seed=seed % 2**32, multivariate=False)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(made)
    trial = study.ask()
    values = {}
    for name, (low, high) in ranges.items():
        if name == "weight_decay" and not trial.suggest_categorical("decays", [False, True]):
            values[name] = 0.0
        else:
            suggested = trial.suggest_float(name, low, high, log=True)
            values[name] = min(max(float(f"{suggested:.{DIGITS}g}"), low), high)
    return values


def _make(number: int, values: Values, subject: Subject, validation: Validation, listener: Listener) -> FrozenTrial:
    """Train with some values, as Optuna stores it."""
    given = number < len(subject.given)
    optimizer = subject.members[number] if given else subject.with_values(values)
    started = time.perf_counter()
    try:
        top1 = validation.top1(optimizer, listener.progressed)
    except (Exception, SystemExit) as error:
        where = f"optimizer {subject.label!r}, try {number + 1} ({in_words(values)})"
        raise TryFailed(f"{where}: {describe(error)}") from error
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for name, (low, high) in subject.ranges.items():
        if name == "weight_decay":
            params["decays"] = values[name] > 0
            distributions["decays"] = CategoricalDistribution([False, True])
        if values[name] > 0:
            params[name] = values[name]
            distributions[name] = FloatDistribution(low, high, log=True)
    return create_trial(
        params=params,
        distributions=distributions,
        value=validation.mean(top1),
        user_attrs={
            "optimizer": subject.label,
            "top1": top1,
            "seconds": time.perf_counter() - started,
            "environment": validation.environment,
        },
    )


def _as_try(made: FrozenTrial, number: int, subject: Subject, stored: bool) -> Try:
    values = {name: float(made.params.get(name, 0.0)) for name in subject.ranges}
    diverged = sum(top1 is None for top1 in made.user_attrs["top1"].values())
    assert made.value is not None
    return Try(number + 1, values, made.value, diverged, stored)


def _open(path: Path) -> RDBStorage:
    url = URL.create("sqlite", database=str(path.resolve()))  # escapes characters that are invalid in URLs
    with foreign(f"{path}: cannot be used: ", "; move it away or fix it"):
        return RDBStorage(url.render_as_string())


def _stored(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
