"""From a plan and a store to what the gate compares, for the command line and the pytest plugin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sgabench.errors import InputError
from sgabench.evidence.leaderboard import make_tables
from sgabench.gate.baseline import Baseline, freeze, read_baseline
from sgabench.gate.check import check
from sgabench.gate.items import Outcome
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, select


def measured(plan: Plan, results: Path) -> Baseline:
    """The stored results of a plan, as a baseline."""
    with Store(results) as store:
        return freeze(make_tables(store, plan), plan.suite.name)


def complete(plan: Plan, results: Path) -> Baseline:
    """The stored results of a complete plan.

    Raises:
        InputError: something is missing, failed or diverged.
    """
    found = measured(plan, results)
    lacking = [(group.name, seed, why) for group in found.groups for seed, why in group.lacking.items()]
    if lacking:
        name, seed, why = lacking[0]
        total = sum(len(group.seeds) + len(group.lacking) for group in found.groups)
        are = "is" if len(lacking) == 1 else "are"
        raise InputError(
            f"results folder {results}: {len(lacking)} of {total} results {are} not there (the first: {name}, seed "
            f"{seed}: {why}); run the suite first, or pass --allow-incomplete"
        )
    return found


def check_plan(plan: Plan, results: Path, baseline: Path, only: str | None = None) -> Outcome:
    """Compare the stored results of a plan with a baseline.

    Args:
        plan: the plan of the whole suite.
        results: folder of the store.
        baseline: the file.
        only: glob over trial names; both sides are cut down to what matches.

    Raises:
        InputError: the baseline cannot be read, is of another suite, or a rule cannot be applied.
    """
    whole = read_baseline(baseline)
    was, now = whole.only(only), measured(select(plan, only), results)
    if whole.groups and not was.groups:
        raise InputError(f"--only {only}: matches no trial (dataset/model/optimizer/seed) of the baseline {baseline}")
    outcome = check(was, now, plan.suite.gate, partial=only is not None)
    if only is None:
        return outcome
    are = "is" if len(was.cells) == 1 else "are"
    note = f"only {only}: {len(was.cells)} of the baseline's {len(whole.cells)} cells {are} compared"
    return replace(outcome, notes=(note, *outcome.notes))
