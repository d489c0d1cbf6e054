"""Two workers of one thread each against one, on a cluster of Ray on this machine, once they have started.

    python benchmarks/ray_workers.py [--rounds 3]

Both train the same eight networks. What is timed is from the first training's begin to the last record's end, as the
records say; so starting the cluster and importing PyTorch are not in it. Needs the extra `ray`, and two idle cores.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SUITE = """
seeds = [0, 1, 2, 3]
ratios = [0.5]

[measurement]
throughput = false

[training]
epochs = 8
batch_size = 64
lr = 0.05

[[datasets]]
name = "digits"

[[models]]
name = "resnet8"

[[optimizers]]
name = "adam"
lr = 0.01

[[optimizers]]
name = "sgd"

[[pruners]]
name = "magnitude"
"""


def seconds_with(workers: int) -> float:
    """Run the suite on a new cluster with so many CPUs."""
    from ray.cluster_utils import Cluster

    from sgabench.store.store import Store

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": workers, "include_dashboard": False})
    try:
        with tempfile.TemporaryDirectory() as folder:
            suite = Path(folder, "suite.toml")
            suite.write_text(SUITE)
            command = [sys.executable, "-m", "sgabench", "run", str(suite), "--executor", "ray", "-q"]
            results = Path(folder, "results")
            subprocess.run([*command, "--address", cluster.address, "--results", str(results)], check=True)
            with Store(results) as store:
                trials, cells = list(store.records("trial")), list(store.records("cell"))
    finally:
        cluster.shutdown()
    began = min(trial.finished_at - trial.result["seconds"] for trial in trials)
    return max(record.finished_at for record in (*trials, *cells)) - began


def main() -> None:
    """Take turns, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found = [(seconds_with(1), seconds_with(2)) for _ in range(rounds)]
    ratios = [one / two for one, two in found]
    for one, two in found:
        print(f"one worker {one:.1f} s, two workers {two:.1f} s: {one / two:.2f}")
    print(f"median {statistics.median(ratios):.2f} (goal: at least 1.2)")


if __name__ == "__main__":
    main()
