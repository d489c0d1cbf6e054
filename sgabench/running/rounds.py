"""Rounds of seeds: as many as it takes to decide what is asked, and no more."""

from __future__ import annotations

from collections.abc import Callable

from sgabench.errors import InputError
from sgabench.evidence.looks import Looks, planned_looks, question_of, read_looks, seen, take, write_looks
from sgabench.running.options import Options
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, remaining
from sgabench.suite.question import SeedRange


def looks_at(plan: Plan, options: Options) -> Looks:
    """The looks at a suite that is run in rounds: those that were planned before, or planned now.

    Raises:
        InputError: the suite was looked at without a plan, or the plan was another one.
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
    """Run round after round of seeds, and look at what they show, until nothing is open that can be decided.

    Each look is kept beside the leaderboard. A round that was interrupted goes on where it was.

    Args:
        plan: with all seeds.
        options: how it is run.
        run: runs what the store does not have of a part of the plan.

    Raises:
        InputError: as `looks_at` and ``run``; or trials are left out by ``only``.
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
    run(looks.restrict(plan))  # nothing, unless something had failed, or was lost


def note_look(plan: Plan, options: Options) -> None:
    """Remember that the results of a suite with fixed seeds were seen, once they are all there."""
    if options.only is not None or options.shard is not None or plan.suite.rounds is not None:
        return
    with Store(options.results) as store:
        complete = not remaining(plan, store.statuses())
    before = read_looks(options.results, plan.suite)
    if complete and not (before and before.planned):
        looks = seen(before, plan.suite)
        if looks != before:
            write_looks(looks, options.results, plan.suite)
