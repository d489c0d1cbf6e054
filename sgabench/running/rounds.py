"""Rounds of seeds: as many as needed to decide the question, and no more."""

from __future__ import annotations

from collections.abc import Callable

from sgabench.errors import InputError
from sgabench.evidence.looks import Looks, planned_looks, question_of, read_looks, seen, take, write_looks
from sgabench.running.options import Options
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, remaining
from sgabench.suite.question import SeedRange


def looks_at(plan: Plan, options: Options) -> Looks:
    """The looks at a suite that is run in rounds, as planned earlier or now.

    Raises:
        InputError: the suite was looked at without a plan, or with another one.
    """
    suite = plan.suite
    if suite.checkpoints:
        raise InputError("--until-decided: the seeds of checkpoints are fixed; leave it out")
    rounds = suite.rounds or _range_of(len(suite.seeds))
    planned = planned_looks(rounds.first, rounds.last)
    looks = read_looks(options.results, suite)
    if looks is None:
        return Looks(question=question_of(suite), planned=planned)
    if looks.planned == planned:
        return looks
    before = "without a plan" if not looks.planned else f"planned at {', '.join(map(str, looks.planned))} seeds"
    raise InputError(
        f"{suite.source}: this question has already been looked at, {before}; looks at {', '.join(map(str, planned))} "
        'seeds can no longer be planned. Continue as before, or give the suite another name = "..." and other seeds'
    )


def _range_of(seeds: int) -> SeedRange:
    if seeds < 3:
        raise InputError(f"--until-decided: needs at least 3 seeds, the suite has {seeds}; add some, or from and to")
    return SeedRange.model_validate({"from": 3, "to": seeds})


def run_rounds(plan: Plan, options: Options, run: Callable[[Plan], None]) -> None:
    """Run rounds of seeds, with a look at the results after each, until nothing that can be decided is open.

    Each look is kept beside the leaderboard. An interrupted round continues where it stopped.

    Args:
        plan: with all seeds.
        options: of the run.
        run: runs a part of the plan, without what the store has.

    Raises:
        InputError: as `looks_at` and ``run``; or ``only`` or ``shard`` leaves out trials.
    """
    from sgabench.evidence.leaderboard import make_tables

    if options.only is not None:
        raise InputError("--only: rounds of seeds concern all optimizers; leave it out")
    if options.shard is not None:
        raise InputError("--shard: rounds of seeds concern all results so far; leave it out")
    looks = looks_at(plan, options)
    while not looks.finished:
        part = looks.restrict(plan, coming=True)
        run(part)
        with Store(options.results) as store:
            tables = make_tables(store, part, looks=looks)
        looks = take(looks, tables.comparisons, part)
        write_looks(looks, options.results, plan.suite)
    run(looks.restrict(plan))  # usually nothing is left of it, unless something failed or was lost


def note_look(plan: Plan, options: Options) -> None:
    """Record a look at the results of a suite with fixed seeds, once they are complete."""
    if options.only is not None or options.shard is not None or plan.suite.rounds is not None:
        return
    with Store(options.results) as store:
        complete = not remaining(plan, store.statuses())
    before = read_looks(options.results, plan.suite)
    if complete and not (before and before.planned):
        looks = seen(before, plan.suite)
        if looks != before:
            write_looks(looks, options.results, plan.suite)
