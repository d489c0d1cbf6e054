"""How large a difference must be for a suite to find it with its seeds, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from sgabench.evidence.contrasts import MOST
from sgabench.evidence.decisions import CURVES, FEWEST
from sgabench.suite.checkpoints import replicates
from sgabench.suite.plan import Plan

if TYPE_CHECKING:
    from sgabench.evidence.leaderboard import Tables

TYPICAL = 0.4  # spread of one seed's difference in log-odds over a curve: 0.1 to 0.45 in benchmarks/evidence
WITH_RATIOS = 1.4  # degrees of freedom for each seed's, with what ratios lend: 1.3 to 1.6 there
POWER = 0.8
PLACES = (0.5, 0.9)  # accuracies at which the difference is stated in points


def smallest_difference(n: int, comparisons: int, spread: float, share: float = 1.0) -> float:
    """The difference of log-odds that is found in four cases out of five.

    Args:
        n: seeds, at least 3.
        comparisons: curves that are judged together.
        spread: standard deviation of one seed's difference.
        share: the part of the error rate that a look may spend.
    """
    freedom = WITH_RATIOS * (n - 1) + MOST
    level = share * CURVES / comparisons
    quantiles = special.stdtrit(freedom, 1 - level / 2) + special.stdtrit(freedom, POWER)
    return float(quantiles * spread / np.sqrt(n))


def foresight(plan: Plan, tables: Tables | None = None, seeds: int | None = None, share: float = 1.0) -> str:
    """One sentence on the differences that a suite can find, given the spread of its stored results, or a typical one.

    Args:
        plan: of the suite.
        tables: its stored results.
        seeds: of the coming look; default: all.
        share: the part of the error rate that a look may spend.
    """
    suite = plan.suite
    n = seeds or min([len(suite.seeds)] * bool(suite.optimizers) + list(replicates(suite.checkpoints).values()))
    blocks = len(suite.datasets) * len(suite.models)
    pruners = 1 if suite.question.pruner else len(suite.pruners)
    comparisons = blocks * pruners * (len(suite.arms) - 1)
    if not comparisons:
        return "one optimizer: nothing to compare"
    if n < FEWEST:
        return f"with {n} seed{'s' * (n > 1)} there is no verdict; it takes {FEWEST}"
    spread, of = TYPICAL, "a typical spread"
    if tables is not None and len(tables.comparisons):
        curves = tables.comparisons[tables.comparisons["ratio"].isna() & (tables.comparisons["n_paired"] >= FEWEST)]
        if len(curves):
            spread, of = float(curves["spread"].median()), "the spread that is stored"
    smallest = smallest_difference(n, comparisons, spread, share)
    differences = " and ".join(
        f"{100 * (place - special.expit(special.logit(place) - smallest)):.0f} where accuracy is {100 * place:.0f} %"
        for place in PLACES
    )
    return (
        f"with {n} seeds and {comparisons} comparison{'s' * (comparisons > 1)} of whole curves, differences of about "
        f"{differences} are found in four of five cases (points; {of})"
    )
