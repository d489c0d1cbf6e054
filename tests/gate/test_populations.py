"""How often the gate is wrong and what gets past it: drawn from populations like those of real networks.

benchmarks/gate.py draws from real ones; docs/ci.md has its numbers.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special

from sgabench.suite.rules import GateTable

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gate.py"
# Mean accuracy, and the standard deviation of log-odds, of resnet8 on digits with SGD, 360 test images.
CELLS = {
    ("dense", 0.0): (0.988, 0.35),
    ("magnitude", 0.5): (0.985, 0.35),
    ("magnitude", 0.7): (0.93, 0.6),
    ("magnitude", 0.8): (0.64, 0.75),
    ("structured", 0.3): (0.85, 0.6),
    ("structured", 0.5): (0.35, 0.7),
}
SEEDS = 60
GATES = 60
FEWER = 25


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gates", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GATE = _script()


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """An optimizer and its twin, half of whose spread is their seeds', and another one with its twin."""
    generator = np.random.default_rng(11)
    made = {}
    for name, shift in (("sgd", 0.0), ("adam", -0.3)):
        shared = generator.standard_normal((SEEDS, len(CELLS)))
        for label in (name, f"{name}-twin"):
            own = generator.standard_normal((SEEDS, len(CELLS)))
            means, spreads = np.array(list(CELLS.values())).T
            odds = special.logit(means) + shift + spreads * (0.9 * shared + np.sqrt(1 - 0.9**2) * own)
            top1 = np.round(special.expit(odds) * 360) / 360
            made[label] = pd.DataFrame(top1, columns=pd.MultiIndex.from_tuples(CELLS, names=["pruner", "ratio"]))
    return made


def ends(
    tables: dict[str, pd.DataFrame], change: Any, n: int = 5, paired: bool = True, draws: int = GATES, **more: Any
) -> Counter[str]:
    found: Counter[str] = GATE.gates(tables, "digits", n, draws, change, paired, GateTable(), **more)
    assert found.total() == draws
    return found


def test_an_unchanged_program_is_hardly_ever_red_and_with_the_same_seeds_hardly_ever_undecided(tables: Any) -> None:
    same = ends(tables, GATE.nothing)
    assert same["red"] <= 0.05 * GATES
    assert same["undecided"] <= 0.1 * GATES
    assert ends(tables, GATE.nothing, paired=False)["red"] <= 0.05 * GATES
    assert ends(tables, GATE.nothing, n=10, paired=False)["red"] <= 0.05 * GATES


def test_the_very_same_networks_are_green(tables: Any) -> None:
    assert ends(tables, GATE.nothing, draws=FEWER, same=True)["green"] == FEWER


@pytest.mark.parametrize("paired", [True, False], ids=["same seeds", "other seeds"])
@pytest.mark.parametrize(
    ("count", "pruner"), [(4, None), (3, "structured"), (4, "structured"), (3, "magnitude"), (5, "structured")]
)
def test_no_collapse_is_green(tables: Any, count: int, pruner: str | None, paired: bool) -> None:
    """Four of five seeds of all networks at chance; three and more of the prunings of one pruner."""
    found = ends(tables, GATE.collapse(count, pruner), paired=paired, draws=FEWER)
    assert found["green"] == 0
    if pruner is None:
        assert found["red"] == FEWER


def test_no_collapse_from_near_chance_is_green(tables: Any) -> None:
    """From 16 to 10 %, which is less than any cap, and hidden by the spread that it makes."""
    low = {name: table.copy() for name, table in tables.items()}
    for table in low.values():
        table["structured"] = np.clip(0.1 + 0.08 * (table["structured"] - 0.1), 0.155, 0.2)
    found = ends(low, GATE.collapse(4, "structured"), paired=False, draws=FEWER)
    assert found["green"] == 0


def test_five_points_in_every_cell_are_red_though_all_is_trained_anew(tables: Any) -> None:
    assert ends(tables, GATE.worse(0.05), paired=False, draws=FEWER)["red"] > 0.5 * FEWER


def test_a_drop_of_36_of_360_images_in_every_seed_is_red(tables: Any) -> None:
    assert ends(tables, GATE.worse(0.1), draws=FEWER, same=True)["red"] == FEWER


def test_what_the_documentation_says_is_there() -> None:
    words = (SCRIPT.parents[1] / "docs" / "ci.md").read_text()
    for title, *_ in GATE.CASES:
        assert title in words
