"""Write the population of a results folder as a small table: right answers, a row per network, a column per cell.

sgabench run benchmarks/evidence/digits.toml --results build/evidence --jobs 2
sgabench run benchmarks/evidence/images.toml --results build/evidence --jobs 2
python benchmarks/evidence/export.py build/evidence benchmarks/evidence/populations.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from sgabench.evidence.leaderboard import make_tables
from sgabench.store.store import Store

ROW = ["dataset", "optimizer", "seed", "test_images"]


def population(results: Path) -> pd.DataFrame:
    """Right answers of every network, dense and after each pruning."""
    with Store(results) as store:
        cells = make_tables(store).cells
    cells = cells.assign(
        test_images=cells["test_images"].astype(int),
        cell=cells["pruner"] + " " + cells["ratio"].map("{:g}".format),
        right=(cells["counted_top1"] * cells["test_images"]).round().astype(int),
        dense=(cells["counted_dense"] * cells["test_images"]).round().astype(int),
    )
    dense = cells.drop_duplicates(ROW).set_index(ROW)["dense"]
    table = cells.pivot(index=ROW, columns="cell", values="right")
    return table.assign(dense=dense).reset_index()


if __name__ == "__main__":
    population(Path(sys.argv[1])).to_csv(sys.argv[2], index=False)
