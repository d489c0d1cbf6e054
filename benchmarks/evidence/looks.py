"""How often rounds of seeds end in a wrong verdict, and what they find: planned looks, drawn from the populations.

    python benchmarks/evidence/looks.py [--draws 1000] [--first 5] [--last 30] [--only NAME]

Each draw is a suite with ``seeds = {from = 5, to = 30}`` that is run until it is decided: at every look the report is
judged with its share of the error rate, what is decided stays decided, and more seeds go only to optimizers with
an open question that is not hopeless. Wrong is a draw in which any look said anything that is not so.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from populations import Floats, Population, populations
from study import CHUNK, HERE, judged, truth, wrong

from sgabench.evidence.looks import HOPELESS, planned_looks

DECIDED = ("better", "worse", "same")


def looked(accuracy: Floats, of: Population, looks: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """Take planned looks as `sgabench.evidence.looks` does.

    Args:
        accuracy: shape (reports, optimizers, seeds of the last look, cells).
        of: where it is from.
        looks: seeds at each.

    Returns:
        For each report: ``wrong``, whether any look said what is not so, and ``trainings``; for each curve: ``right``,
        whether its direction was found.
    """
    reports, optimizers = accuracy.shape[:2]
    others, pruners = optimizers - 1, len(of.pruners)
    curves, ratios = truth(of)
    seeds = np.full((reports, others), looks[0])
    still_open = np.ones((reports, others), dtype=bool)
    kept = np.full((reports, others * pruners), "", dtype=object)
    is_wrong = np.zeros(reports, dtype=bool)
    for n in looks:
        seeds = np.where(still_open, n, seeds)
        going = still_open.any(1)  # what is finished is not looked at again
        if not going.any():
            break
        found = judged(accuracy[going], of, seeds[going], 1 / len(looks))
        outcome = np.where(kept[going] == "", found.outcome, kept[going])
        is_wrong[going] |= wrong(outcome, curves).any(1) | wrong(found.detail, ratios).any((1, 2))
        kept[going] = np.where(np.isin(outcome, DECIDED), outcome, "")
        promising = (kept[going] == "") & (found.more_seeds() <= HOPELESS * (looks[-1] - n))
        still_open[going] = promising.reshape(-1, pruners, others).any(1)
    right = np.where(curves > 0, kept == "better", np.where(curves < 0, kept == "worse", False))
    return {"wrong": is_wrong, "trainings": seeds.sum(1) + seeds.max(1), "right": right}


def row(of: Population, looks: tuple[int, ...], draws: int, seed: int) -> str:
    """Errors, trainings and power of rounds of seeds, as a row of a table."""
    random = np.random.default_rng(seed)
    parts = [
        looked(of.draw(random, min(CHUNK, draws - start), looks[-1]), of, looks) for start in range(0, draws, CHUNK)
    ]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    power = (
        ""
        if of.accuracy is None
        else ", ".join(
            f"{name} {100 * found['right'][:, number].mean():.1f}"
            for number, name in enumerate(of.names[1:])
            if name not in of.null
        )
    )
    error, trainings = 100 * found["wrong"].mean(), found["trainings"].mean()
    return f"| {of.name} | {looks[0]} | {error:.1f} | {trainings:.0f} of {looks[-1] * len(of.names)} | {power} |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--first", type=int, default=5, help="seeds at the first look, at least 5")
    parser.add_argument("--last", type=int, default=30, help="seeds at the last look")
    parser.add_argument("--only", default="", help="populations whose name has this in it")
    options = parser.parse_args()
    looks = planned_looks(options.first, options.last)
    print("| population | first look | wrong % | trainings | found % |\n|---|---:|---:|---:|---|")
    for number, of in enumerate(populations(pd.read_csv(HERE / "populations.csv"))):
        if options.only in of.name:
            print(row(of, looks, options.draws, seed=number), flush=True)


if __name__ == "__main__":
    main()
