"""How often the gate is red, undecided and green: drawn from the results of many seeds, as a table.

    python benchmarks/gate.py [benchmarks/evidence/populations.csv] [--draws 1000] [--seeds 3,5,10] [--cases TEXT]

The file has right answers, a row per network and a column per cell, as benchmarks/evidence/export.py writes it. An
unchanged program is an optimizer and its twin, which differs by rounding only, with the same seeds (paired), or the
optimizer with other seeds. What a gate guards is every optimizer that has a twin.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sgabench.gate.baseline import Baseline, Group, Spread
from sgabench.gate.check import check
from sgabench.suite.rules import GateTable

CLASSES = 10
IMAGES = {"digits": 360, "cifar10": 1_000, "fashion_mnist": 1_000}
TWIN = "-twin"
POINTS = 0.05

Networks = dict[tuple[str, str, float], np.ndarray[Any, np.dtype[np.float64]]]  # optimizer, pruner, ratio: by seed
Change = Callable[[Networks, np.random.Generator], Networks]


def population(path: Path, dataset: str) -> dict[str, pd.DataFrame]:
    """For each optimizer a row per seed that has everything, and a column per (pruner, ratio)."""
    rows = pd.read_csv(path)
    rows = rows[rows["dataset"] == dataset].set_index(["optimizer", "seed"])
    cells = {name: (*name.split(), "0")[:2] for name in rows.columns if name not in ("dataset", "test_images")}
    top1 = rows[list(cells)].div(rows["test_images"], axis=0)
    top1.columns = pd.MultiIndex.from_tuples([(pruner, float(ratio)) for pruner, ratio in cells.values()])
    tables = {name: part.droplevel("optimizer").dropna() for name, part in top1.groupby(level="optimizer")}
    return {str(name): table for name, table in tables.items() if len(table) >= 2}


def frozen(networks: Networks, dataset: str, seeds: np.ndarray[Any, Any]) -> Baseline:
    """What a gate would read of these networks."""

    def groups(dense: bool) -> Iterator[Group]:
        for (optimizer, pruner, ratio), top1 in networks.items():
            if (pruner == "dense") != dense:
                continue
            cell: dict[str, Any] = {} if dense else {"pruner": pruner, "ratio": ratio, "of": "weights"}
            counts: dict[str, Any] = {"classes": CLASSES, "test_images": IMAGES[dataset]} if dense else {}
            yield Group(
                dataset=dataset,
                model="resnet8",
                optimizer=optimizer,
                seeds=tuple(seeds.tolist()),
                keys=tuple(map(str, seeds)),
                metrics={"dense_top1" if dense else "pruned_top1": Spread.of(top1)},
                **cell,
                **counts,
            )

    return Baseline(suite="s", environments=(), trials=tuple(groups(True)), cells=tuple(groups(False)))


def drawn(tables: dict[str, pd.DataFrame], names: dict[str, str], seeds: Any) -> Networks:
    """The networks of these seeds; ``names``: what each optimizer is called, and whose results it has."""
    networks = {}
    for name, source in names.items():
        top1 = tables[source].loc[seeds].to_numpy()
        for place, (pruner, ratio) in enumerate(tables[source].columns.to_list()):
            networks[name, str(pruner), float(ratio)] = top1[:, place]
    return networks


def nothing(networks: Networks, generator: np.random.Generator) -> Networks:
    """An unchanged program."""
    return networks


def worse(points: float) -> Change:
    """Every network is worse by so much."""
    return lambda networks, generator: {cell: np.maximum(top1 - points, 0) for cell, top1 in networks.items()}


def collapse(count: int, pruner: str | None = None) -> Change:
    """So many seeds guess: of all networks, or of the prunings of one pruner of the first optimizer."""

    def change(networks: Networks, generator: np.random.Generator) -> Networks:
        first = next(iter(networks))[0]
        changed = {}
        for cell, top1 in networks.items():
            hit = pruner is None or cell[:2] == (first, pruner)
            which = generator.permutation(len(top1))[: count if hit else 0]
            changed[cell] = np.where(np.isin(np.arange(len(top1)), which), 1 / CLASSES, top1)
        return changed

    return change


def gates(
    tables: dict[str, pd.DataFrame],
    dataset: str,
    n: int,
    draws: int,
    change: Change,
    paired: bool,
    rules: GateTable,
    same: bool = False,
) -> Counter[str]:
    """Draw gates and count how they end. ``same``: the very networks of the baseline, changed."""
    guarded = [name for name in tables if name + TWIN in tables] or list(tables)
    if paired and not same:
        guarded = [name for name in guarded if name + TWIN in tables]
    common = sorted(set.intersection(*(set(tables[name].index) for name in tables)))
    generator = np.random.default_rng(n)
    ends: Counter[str] = Counter()
    for _ in range(draws if guarded else 0):
        seeds = generator.choice(common, 2 * n, replace=False)
        first = np.sort(seeds[:n])
        second = first if paired or same else np.sort(seeds[n:])
        was = drawn(tables, {name: name for name in guarded}, first)
        of_now = {name: name + TWIN if paired and not same else name for name in guarded}
        now = change(drawn(tables, of_now, second), generator)
        code = check(frozen(was, dataset, first), frozen(now, dataset, second), rules).exit_code
        ends[{0: "green", 1: "red", 3: "undecided"}[code]] += 1
    return ends


CASES: list[tuple[str, Change, bool, bool]] = [
    ("unchanged, same seeds", nothing, True, False),
    ("unchanged, other seeds", nothing, False, False),
    ("4 seeds of all networks at chance", collapse(4), True, False),
    ("3 seeds of one pruner at chance", collapse(3, "magnitude"), True, False),
    ("3 seeds of the other pruner at chance", collapse(3, "random"), True, False),
    ("3 seeds of one pruner at chance, other seeds", collapse(3, "magnitude"), False, False),
    ("5 points worse, same seeds", worse(POINTS), True, False),
    ("5 points worse, other seeds", worse(POINTS), False, False),
    ("10 points worse, the same networks", worse(0.1), True, True),
    ("2 points worse, same seeds", worse(0.02), True, False),
]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", default=Path(__file__).parent / "evidence" / "populations.csv")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seeds", default="3,5,10")
    parser.add_argument("--datasets", default="digits,cifar10")
    parser.add_argument("--cases", default="", help="only cases whose name has this in it")
    arguments = parser.parse_args()
    print("| data set | case | n | red | undecided | green |\n|---|---|---:|---:|---:|---:|")
    for dataset in arguments.datasets.split(","):
        tables = population(arguments.results, dataset)
        for title, change, paired, same in (case for case in CASES if arguments.cases in case[0]):
            for n in map(int, arguments.seeds.split(",")):
                ends = gates(tables, dataset, n, arguments.draws, change, paired, GateTable(), same)
                total = sum(ends.values())
                if total:
                    shares = " | ".join(f"{100 * ends[end] / total:.1f} %" for end in ("red", "undecided", "green"))
                    print(f"| {dataset} | {title} | {n} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
