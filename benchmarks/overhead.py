"""What of a trial's time is neither training nor evaluation: `sgabench run` with a stopwatch in it.

python benchmarks/overhead.py SUITE [OPTION OF RUN ...]

Trials have to run in this process, so `--jobs` is 1. Results go to a folder that is removed.
"""

from __future__ import annotations

import sys
import tempfile

from rich.console import Console
from rich.table import Table

from sgabench.cli import main
from sgabench.system.threads import wait_politely


def measure(arguments: list[str]) -> None:
    """Run, and print a row per trial."""
    wait_politely()  # as the command line does, before torch is loaded
    from stopwatch import PARTS, Stopwatch

    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as results, stopwatch.watching():
        try:
            main(["run", *arguments, "--jobs", "1", "--results", results])
        except SystemExit as end:
            if end.code:
                raise
    table = Table("trial", "seconds", *PARTS, "rest", "rest, %")
    for name, seconds, of in stopwatch.rows:
        parts = [of.get(part, 0.0) for part in PARTS]
        rest = seconds - sum(parts)
        table.add_row(
            name, f"{seconds:.1f}", *(f"{part:.2f}" for part in (*parts, rest)), f"{100 * rest / seconds:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    measure(sys.argv[1:])
