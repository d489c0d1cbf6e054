"""Looks at results while seeds are added: planned, paid for, and kept beside the leaderboard.

Looking, adding seeds and looking again until something shows finds too much: at 3, 5 and 10 seeds, 5 % become about
12 %. So looks are planned, and each may spend only an equal share of the error rate: alpha spending (Lan and DeMets,
"Discrete sequential boundaries for clinical trials", Biometrika 70, 1983) that takes no advantage of the correlation
between looks, and so holds for any test. What was decided at a look stays decided.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sgabench.errors import InputError, first_problem
from sgabench.store.store import write_atomically
from sgabench.suite.limits import MAX_SEEDS
from sgabench.suite.plan import Plan, TrialPlan, content_key
from sgabench.suite.resolving import Suite, read_text

if TYPE_CHECKING:
    import pandas as pd

FILE = "looks.json"
MAX_BYTES = 20_000_000
FIRST = 5  # seeds: with fewer, optimizers whose networks succeed or collapse differ by chance too often
HOPELESS = 3  # times the seeds that are left: comparisons that would take more get no more seeds

Text = Annotated[str, Field(max_length=1000)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seeds = Annotated[int, Field(strict=True, ge=1, le=MAX_SEEDS)]
Place = tuple[Any, ...]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Decided(_Frozen):
    """A curve's verdict, as returned by `sgabench.evidence.comparison.compare`."""

    dataset: Text
    model: Text
    pruner: Text
    of: Text
    first: Text
    second: Text
    n_paired: Seeds
    difference: Number
    difference_low: Number
    difference_high: Number
    p: Number
    level: Number
    outcome: Literal["better", "worse", "same"]
    verdict: Text

    @property
    def place(self) -> Place:
        """What it is about."""
        return (self.dataset, self.model, self.pruner, self.of, self.first, self.second)


class Given(_Frozen):
    """How many seeds an optimizer was given, and whether its question is still open."""

    dataset: Text
    model: Text
    optimizer: Text
    seeds: Seeds
    open: bool


class Look(_Frozen):
    """One look at the results."""

    seeds: Seeds
    at: Number
    decided: tuple[Decided, ...] = ()
    given: tuple[Given, ...] = ()


class Looks(_Frozen):
    """All looks at a suite.

    Attributes:
        question: that they are about; another one needs looks of its own.
        planned: seeds at each look; empty: none were planned.
        taken: the looks so far.
    """

    format: Literal[1] = 1
    question: Text
    planned: Annotated[tuple[Seeds, ...], Field(max_length=100)] = ()
    taken: Annotated[tuple[Look, ...], Field(max_length=1000)] = ()

    @property
    def share(self) -> float:
        """The part of the error rate that each look may spend."""
        return 1 / max(1, len(self.planned))

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to decide."""
        last = self.taken[-1] if self.taken else None
        return last is not None and (len(self.taken) >= len(self.planned) or not any(g.open for g in last.given))

    def seeds_of(self, plan: Plan, *, coming: bool = False) -> dict[Place, int]:
        """Seeds of each (data set, model, optimizer) at the last look, or for the coming one."""
        start = 0 if not coming or not self.planned else self.planned[0]
        given = {trial_place(trial): start for trial in plan.trials}
        if not self.taken:
            return given
        following = self.planned[len(self.taken)] if coming and not self.finished else 0
        for part in self.taken[-1].given:
            place = (part.dataset, part.model, part.optimizer)
            if place in given:
                given[place] = following if part.open and following else part.seeds
        return given

    def restrict(self, plan: Plan, *, coming: bool = False) -> Plan:
        """The part of a plan that the last look asked for, or the coming one will."""
        if not self.planned:
            return plan
        given = self.seeds_of(plan, coming=coming)
        number = {seed: place for place, seed in enumerate(plan.suite.seeds)}
        kept = [trial for trial in plan.trials if number[trial.seed] < given[trial_place(trial)]]
        return replace(plan, trials=tuple(kept))


def trial_place(trial: TrialPlan) -> Place:
    """The (data set, model, optimizer) whose seeds a trial counts among."""
    return (trial.dataset.label, trial.model.label, trial.optimizer.label)


def planned_looks(first: int, last: int) -> tuple[int, ...]:
    """Numbers of seeds to look at, not below `FIRST`, each about 1.6 times the one before: 5, 8, 13, 21, 30."""
    looks = [min(max(first, FIRST), last)]
    while looks[-1] < last:
        following = round(1.6 * looks[-1] + 0.25)
        looks.append(last if following > 0.8 * last else following)
    return tuple(looks)


def question_of(suite: Suite) -> str:
    """Identifies what a suite's verdicts are about: other optimizers, pruners or ratios are another question."""
    parts = {
        name: [[choice.label, choice.identity()] for choice in getattr(suite, name)]
        for name in ("datasets", "models", "optimizers", "pruners")
    }
    brought = [[checkpoint.label, checkpoint.model.label, checkpoint.seed] for checkpoint in suite.checkpoints]
    parts |= {"checkpoints": brought} if brought else {}
    return content_key({**parts, "question": suite.question.model_dump(mode="json")})


def path_of(results: Path, suite: Suite) -> Path:
    """The file of the looks at a suite."""
    return results / suite.looks_folder / FILE


def looks_of(results: Path, suite: Suite) -> Looks | None:
    """The looks at a suite, or those that it asks for; None if it asks for none and none were taken.

    Raises:
        InputError: as `read_looks`.
    """
    looks = read_looks(results, suite)
    if looks is None and suite.rounds:
        return Looks(question=question_of(suite), planned=planned_looks(suite.rounds.first, suite.rounds.last))
    return looks


def read_looks(results: Path, suite: Suite) -> Looks | None:
    """The looks at a suite; None if there are none for this question.

    Raises:
        InputError: the file is damaged.
    """
    path = path_of(results, suite)
    try:
        looks = Looks.model_validate(json.loads(read_text(path, MAX_BYTES, "looks")))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        where, problem = first_problem(error)
        raise InputError(f"{path}: {'.'.join(map(str, where))}: {problem}; {_MEND}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}; {_MEND}") from None
    return looks if looks.question == question_of(suite) else None


_MEND = "remove the file to forget which looks were taken (verdicts then do not pay for them)"


def write_looks(looks: Looks, results: Path, suite: Suite) -> None:
    """Keep the looks at a suite.

    Raises:
        InputError: they cannot be written.
    """
    path = path_of(results, suite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path.resolve(), (looks.model_dump_json(indent=1) + "\n").encode())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def with_decided(compared: pd.DataFrame, looks: Looks) -> pd.DataFrame:
    """Replace today's verdicts by those that earlier looks decided."""
    decided = {row.place: row for look in looks.taken for row in look.decided}
    if not decided or compared.empty:
        return compared
    compared = compared.copy()
    names = ["dataset", "model", "pruner", "of", "first", "second"]
    whole = compared.index[compared["ratio"].isna()]
    for index, place in zip(whole, compared.loc[whole, names].itertuples(index=False, name=None), strict=True):
        row = decided.get(place)
        if row is not None:
            values = {**row.model_dump(exclude=set(names)), "more_seeds": 0, "most_seeds": 0}
            compared.loc[index, list(values)] = list(values.values())
    return compared


def take(looks: Looks, compared: pd.DataFrame, plan: Plan) -> Looks:
    """Look at the comparisons of a plan that was restricted for the coming look.

    Returns:
        The looks including this one: what is decided now, and which optimizers get more seeds.
    """
    n = looks.planned[len(looks.taken)]
    earlier = {row.place for look in looks.taken for row in look.decided}
    curves = compared[compared["ratio"].isna()]
    fields = list(Decided.model_fields)
    rows = [
        Decided(**{name: row[name] for name in fields})
        for row in curves[curves["outcome"].isin(["better", "worse", "same"])].to_dict("records")
    ]
    left = looks.planned[-1] - n
    still = curves[curves["outcome"].isin(["undecided", "few", "fewer", "none"])]
    going_on = still[(still["more_seeds"] <= HOPELESS * left) & (left > 0)]
    open_places = {
        (row["dataset"], row["model"], row[side]) for row in going_on.to_dict("records") for side in ("first", "second")
    }
    given = looks.seeds_of(plan, coming=True)
    look = Look(
        seeds=n,
        at=time.time(),
        decided=tuple(row for row in rows if row.place not in earlier),
        given=tuple(
            Given(dataset=d, model=m, optimizer=o, seeds=seeds, open=(d, m, o) in open_places)
            for (d, m, o), seeds in given.items()
        ),
    )
    return looks.model_copy(update={"taken": (*looks.taken, look)})


def seen(looks: Looks | None, suite: Suite) -> Looks:
    """Looks including an unplanned one, at all seeds of a suite; unchanged if it was taken before."""
    looks = looks or Looks(question=question_of(suite))
    n = len(suite.seeds)
    if any(look.seeds == n for look in looks.taken):
        return looks
    return looks.model_copy(update={"taken": (*looks.taken, Look(seeds=n, at=time.time()))})


def notes(looks: Looks | None) -> tuple[str, ...]:
    """What a reader of the verdicts must know about the looks."""
    if looks is None or not looks.taken:
        return ()
    counts = [look.seeds for look in looks.taken]
    if not looks.planned:
        if len(counts) < 2:
            return ()
        return (
            f"looked at with {_listed(counts)} seeds, unplanned: the chance of any wrong verdict over all looks is up "
            f"to {5 * len(counts)} %, not 5 %; seeds = {{from = {counts[0]}, to = {counts[-1]}}}, or run "
            "--until-decided, plans and pays for looks",
        )
    were = "was" if len(counts) == 1 else "were"
    planned = f"{len(counts)} of {len(looks.planned)} planned looks {were} taken, at {_listed(counts)} seeds"
    ended = "; nothing is left that more seeds are likely to decide" if looks.finished else ""
    return (f"{planned}, each at {100 * looks.share:.3g} % of the error rate{ended}",)


def _listed(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts[:-1])) + (" and " if counts[1:] else "") + str(counts[-1])
