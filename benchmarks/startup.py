"""What start-up takes: commands, and a run up to the first step of its first training.

    python benchmarks/startup.py [--rounds 5]

Seconds of wall clock and of processor time, medians; the commands take turns, each in a process of its own. The suite
is of digits, in a folder that is removed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUITE = """
seeds = [0, 1, 2]
ratios = [0.5, 0.8]

[training]
epochs = 1
batch_size = 128

[measurement]
throughput = false

[[datasets]]
name = "digits"

[[models]]
name = "resnet8"

[[optimizers]]
name = "adam"

[[optimizers]]
name = "sgd"

[[pruners]]
name = "magnitude"
"""
# A run that ends with the first step of a training: rehearsals have few images.
FIRST_STEP = """
import os, sys
import sgabench.running.executors.here as here
from sgabench.cli import main

listen = here.Here.listen

def listening(*arguments):
    from sgabench.training.step import GradientStep
    passes = GradientStep.__call__

    def call(step, drawn):
        passes(step, drawn)
        if len(step._data.train) > 100:
            os._exit(0)

    GradientStep.__call__ = call
    listen(*arguments)

here.Here.listen = listening
main(sys.argv[1:])
"""


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall clock and processor time of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sgabench = ["-m", "sgabench"]
    commands = {
        "`sgabench --help`": [*sgabench, "--help"],
        "`sgabench plan`, 18 trials and cells": [*sgabench, "plan", "suite.toml"],
        "`sgabench report`, of the same": [*sgabench, "report", "suite.toml"],
        "`sgabench run` with nothing left to do": [*sgabench, "run", "suite.toml"],
        "`sgabench run` to the first step of a training": ["-c", FIRST_STEP, "run", "suite.toml", "--results", "new"],
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "suite.toml").write_text(SUITE, encoding="utf-8")
        os.environ["SGABENCH_PRECISION"] = "fp32"  # which is faster is measured once a machine, not here
        measured([*sgabench, "run", "suite.toml"], folder)
        for number in range(options.rounds + 1):
            for what, command in commands.items():
                took = measured(command, folder)
                if number:  # the first warms the disk's cache
                    found[what].append(took)
    print("| what | seconds | processor time |\n|---|---:|---:|")
    for what, times in found.items():
        wall, processor = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"| {what} | {wall:.2f} | {processor:.2f} |")


if __name__ == "__main__":
    main()
