"""From `sgabench run` to a decided question, in seconds, with the parts: what a user waits for.

    python benchmarks/time_to_verdict.py                                         # the positive control, on digits
    python benchmarks/time_to_verdict.py benchmarks/time_to_verdict.toml --data-dir DATA --until-decided
    python benchmarks/time_to_verdict.py SUITE [OPTION OF RUN ...]

Trials have to run in one process to be watched, so `--jobs` is 1. Results go to a folder that is removed. The exit code
is 1 if the question is not decided at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from sgabench.system.threads import wait_politely

STARTED = "TIME_TO_VERDICT_STARTED"  # when Enter was pressed
POSITIVE = Path(__file__).parents[1] / "suites" / "controls" / "positive.toml"
OPEN = ("undecided", "fewer", "few", "none")


def watched(arguments: list[str], started: float) -> tuple[dict[str, float], list[str]]:
    """Run a suite in this process.

    Args:
        arguments: of `sgabench run`.
        started: when the process was started, by `time.time`.

    Returns:
        Seconds of each part, in the order in which they come; and the verdicts on whole curves.
    """
    from stopwatch import EVALUATION, PRUNING, SPEED, TRAINING, Stopwatch

    from sgabench.cli import main

    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as results:
        with stopwatch.watching():
            try:
                main(["run", *arguments, "--jobs", "1", "--results", results])
            except SystemExit as end:
                if end.code:
                    raise
        ended = time.time()
        if stopwatch.began is None or stopwatch.ended is None:
            raise SystemExit("there was no trial to run")
        verdicts = _verdicts(arguments, Path(results))
    in_trials = sum(seconds for _, seconds, _ in stopwatch.rows)
    parts = {part: stopwatch.total(part) for part in (TRAINING, EVALUATION, PRUNING, SPEED)}
    # Some rehearsals come before the first trial, some between two; they are shown as one part.
    before = stopwatch.began - started
    between = stopwatch.ended - stopwatch.began - in_trials
    found = {
        "start-up and rehearsals": before + min(between, stopwatch.rehearsed),
        **parts,
        "rest of the trials": in_trials - sum(parts.values()),
        "between trials (storing, looks)": max(0.0, between - stopwatch.rehearsed),
        "report": ended - stopwatch.ended,
        "all": ended - started,
    }
    return found, verdicts


def _verdicts(arguments: list[str], results: Path) -> list[str]:
    """A line for each whole curve of the pruner that is asked about, or of all."""
    from sgabench import load_suite
    from sgabench.evidence.leaderboard import make_tables
    from sgabench.store.store import Store
    from sgabench.suite.plan import make_plan

    suite = load_suite(Path(arguments[0]))
    data = Path(arguments[arguments.index("--data-dir") + 1]) if "--data-dir" in arguments else Path("data")
    with Store(results) as store:
        tables = make_tables(store, make_plan(suite, data))
    curves = tables.curves[tables.curves["outcome"] != "reference"]
    if tables.question.pruner:
        curves = curves[curves["pruner"] == tables.question.pruner]
    return [f"{row['outcome']}: {row['optimizer']}: {row['verdict']}" for row in curves.to_dict("records")]


def shown(parts: Mapping[str, float]) -> str:
    """The parts as a Markdown table."""
    whole = parts["all"]
    rows = [f"| {part} | {seconds:.2f} | {100 * seconds / whole:.0f} |" for part, seconds in parts.items()]
    return "\n".join(["| part | seconds | % |", "|---|---:|---:|", *rows])


def main() -> int:
    """Run a suite in a process of its own, as a user does."""
    arguments = sys.argv[1:] or [str(POSITIVE)]
    wait_politely()  # as the command line does, before torch is loaded
    if STARTED not in os.environ:
        now = {**os.environ, STARTED: str(time.time())}
        return subprocess.run([sys.executable, __file__, *arguments], env=now, check=False).returncode
    parts, verdicts = watched(arguments, float(os.environ[STARTED]))
    print(f"\n{shown(parts)}\n", *verdicts, sep="\n")
    return 1 if any(verdict.startswith(OPEN) for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
