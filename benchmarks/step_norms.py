"""Step norms of every optimizer of a suite, in those of its first one, epoch by epoch.

    python benchmarks/step_norms.py --results build/step-norms

The suite must have the probe step-norm; what is stored is not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from sgabench import load_suite, run
from sgabench.store.store import Store
from sgabench.suite.plan import make_plan

SUITE = Path(__file__).parents[1] / "suites" / "controls" / "step_norms.toml"


def main() -> None:
    """Run the suite and print a table for each data set and model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, default=SUITE)
    parser.add_argument("--results", type=Path, default=Path("build/step-norms"))
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of sgabench run")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    suite = load_suite(options.suite, options.set)
    run(suite, results=options.results, data_dir=options.data_dir, jobs=options.jobs)
    with Store(options.results) as store:
        probes = [record for record in store.records("probe", detail=True) if "step_norm" in record.detail]
    found = {record.parent: record.detail["step_norm"] for record in probes}
    norms: dict[tuple[str, str], dict[str, dict[int, list[float]]]] = {}
    for trial in make_plan(suite, options.data_dir).trials:
        of = norms.setdefault((trial.dataset.label, trial.model.label), {})
        if trial.key in found:  # what diverged has none
            of.setdefault(trial.optimizer.label, {})[trial.seed] = found[trial.key]
    reference = suite.optimizers[0].label
    for (dataset, model), of in norms.items():
        print(f"{dataset}, {model}: step norms in those of {reference}, geometric mean over seeds (lowest to highest)")
        print(f"  {reference} itself: {'  '.join(f'{value:.3f}' for value in _mean(list(of[reference].values())))}")
        for optimizer, by_seed in of.items():
            common = sorted(by_seed.keys() & of[reference].keys())
            if optimizer == reference or not common:
                continue
            ratios = np.array([np.divide(by_seed[seed], of[reference][seed]) for seed in common])
            columns = zip(_mean(ratios), ratios.min(0), ratios.max(0), strict=True)
            shown = "  ".join(f"{mean:.2f} ({low:.2f} to {high:.2f})" for mean, low, high in columns)
            print(f"  {optimizer}, {len(common)} seeds: {shown}")


def _mean(rows: Any) -> list[float]:
    """Geometric: a ratio and its inverse cancel."""
    return [float(value) for value in np.exp(np.mean(np.log(rows), axis=0))]


if __name__ == "__main__":
    main()
