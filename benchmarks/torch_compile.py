"""Whether torch.compile would make training on this CPU faster: compares the passes of a step, and says what it costs.

OMP_NUM_THREADS=1 python benchmarks/torch_compile.py [MODEL ...]
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from sgabench.bench.training import RECIPE, SPEC
from sgabench.plugins import models
from sgabench.running.loops import Resident, Workload
from sgabench.suite.choices import Choice
from sgabench.system.environment import cores, describe_environment
from sgabench.training.building import precision_on, set_up_torch


def main(names: list[str]) -> None:
    """Print a line per model."""
    set_up_torch("cpu", cores())
    precision = precision_on(RECIPE, describe_environment("cpu", cores()))
    for name in names or ["resnet20"]:
        work = Workload(Choice(name, name, models[name].resolve({})), SPEC, RECIPE)
        eager = Resident(work, "cpu", precision, captured=False)
        compiled = Resident(work, "cpu", precision, captured=False, compiled=True)
        started = time.perf_counter()
        compiled.train(1)
        cost = time.perf_counter() - started
        compiled.train(2)
        ratios = [compiled.block(2) / eager.block(2) for _ in range(7)]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        print(
            f"{name}, {precision}, {torch.get_num_threads()} threads: compiled / eager images/s "
            f"{median:.2f} [{low:.2f} to {high:.2f}]; the first step takes {cost:.0f} s"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
