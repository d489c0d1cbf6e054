"""The harness proves itself: known effects are found with five seeds, and nothing where there is nothing.

    python benchmarks/controls.py [--results build/controls] [--jobs 2] [--null-sets 1]

Exit code 1 if the positive control finds too little or the null control anything. With ``--null-sets 10`` the null
control is run with ten sets of seeds; at most one may make a claim.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from sgabench import load_suite, run
from sgabench.evidence.leaderboard import Tables

SUITES = Path(__file__).parents[1] / "suites" / "controls"
KNOWN = ("prox-sgd", "grda")
DENSE_WITHIN = 0.02
AT = 0.8


def claims(tables: Tables) -> pd.DataFrame:
    """What is said to be better or worse."""
    return tables.comparisons[tables.comparisons["outcome"].isin(["better", "worse"])]


def positive(results: Path, jobs: int) -> list[str]:
    """What is wrong with the positive control."""
    tables = run(load_suite(SUITES / "positive.toml"), results=results, jobs=jobs)
    found = claims(tables)
    better = found[found["outcome"] == "better"]
    problems = []
    board = tables.leaderboard[tables.leaderboard["ratio"] == AT].set_index("optimizer")
    for name in KNOWN:
        of_it = better[better["first"] == name]
        if not of_it["ratio"].isna().any():
            problems.append(f"{name} is not found to be better over the curve")
        if not (of_it["ratio"] == AT).any():
            problems.append(f"{name} is not found to be better at {AT}")
        loss = board.loc["sgd", "dense_top1_mean"] - board.loc[name, "dense_top1_mean"]
        if loss > DENSE_WITHIN:
            problems.append(f"{name} is {100 * loss:.1f} points less accurate before pruning: no fair control")
    wrong = found[(found["first"] == "sgd-twin") | ((found["outcome"] == "worse") & (found["pruner"] != "(dense)"))]
    problems += [f"{row['first']}: {row['verdict']}" for row in wrong.to_dict("records")]
    for row in better[better["ratio"].isna()].to_dict("records"):
        print(f"positive: {row['first']} is {row['verdict']}")
    return problems


def null(results: Path, jobs: int, sets: int) -> list[str]:
    """What is wrong with the null control: sets of seeds with a claim, beyond one in ten."""
    suite = load_suite(SUITES / "null.toml")
    n = len(suite.seeds)
    problems = []
    for number in range(sets):
        seeds = tuple(range(number * n, (number + 1) * n))
        found = claims(run(replace(suite, seeds=seeds), results=results, jobs=jobs))
        if len(found):
            row = found.iloc[0]
            problems.append(f"seeds {seeds[0]} to {seeds[-1]}: {row['first']}: {row['verdict']} ({row['pruner']})")
    print(f"null: {len(problems)} of {sets} sets of {n} seeds with a claim")
    return problems if len(problems) > sets // 10 else []


def main() -> int:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("build/controls"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--null-sets", type=int, default=1)
    options = parser.parse_args()
    problems = positive(options.results, options.jobs) + null(options.results, options.jobs, options.null_sets)
    for problem in problems:
        print(f"control: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
