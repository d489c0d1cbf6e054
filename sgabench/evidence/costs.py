"""From cells of trainings of several lengths to cells at equal training cost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sgabench.errors import InputError
from sgabench.evidence.frames import COSTS, TRIAL, Frames
from sgabench.evidence.intervals import Floats
from sgabench.suite.plan import content_key

LENGTH = ("epochs", "warmup_epochs")  # what may differ between the lengths of one training
BLOCK = ["dataset", "model"]
SAME_CELL = ["dataset", "model", "seed", "pruner", "of", "ratio"]
NO_NUMBERS = {*SAME_CELL, "threads", "environment"}  # numeric columns that are no measurements


@dataclass(frozen=True)
class Axis:
    """A cost to compare at.

    Attributes:
        column: of the cells, which has the cost.
        tolerance: costs whose relative difference is no more than this are the same.
        unit, units: singular and plural.
    """

    column: str
    tolerance: float
    unit: str
    units: str

    def in_words(self, *costs: float) -> str:
        """``1 pass``, ``100 and 200 passes``."""
        numbers = [_plain(cost) for cost in costs]
        return f"{' and '.join(numbers)} {self.unit if numbers == ['1'] else self.units}"


AXES = {
    "passes": Axis(COSTS[0], 1e-9, "pass", "passes"),
    "train-seconds": Axis(
        COSTS[1], 0.02, "s of training", "s of training"
    ),  # two runs of the same training differ by as much
}


@dataclass(frozen=True)
class AtCost:
    """Cells at equal training costs.

    Attributes:
        cells: as in `Tables`, with the cost after the ``model``, the common name of a training's lengths as
            ``optimizer``, and ``interpolated``.
        names: what each label of an optimizer is called there.
        blocks: the one level of each data set and model, by its ``model``, that ranks are made of: the most expensive
            of those with the most optimizers. The others are of the same networks.
        warnings: which optimizers are left out, and why.
    """

    cells: pd.DataFrame
    names: Mapping[str, str]
    blocks: frozenset[tuple[str, str]]
    warnings: tuple[str, ...]


def at_cost(frames: Frames, by: str) -> AtCost:
    """Compare optimizers where their trainings cost the same.

    The lengths of a training are the trials that differ in nothing but epochs and warm-up. Every cost of a trial is a
    level; an optimizer has a row there if for every seed one of its lengths costs as much, or a shorter one costs less
    and a longer one more. Between two lengths all numbers are interpolated linearly in the logarithm of the cost. A
    seed's level is what the training that the level is named after cost with that seed.

    Args:
        frames: what is stored.
        by: ``passes`` or ``train-seconds``.

    Raises:
        InputError: no two optimizers have a cost in common.
    """
    axis = AXES[by]
    cells = frames.cells
    if cells.empty:
        return AtCost(cells.assign(interpolated=False), {}, frozenset(), ())
    names = _names(cells, frames.made_of)
    asked, left_out, blocks = [], [], set()
    for (dataset, model), of_block in cells.groupby(BLOCK, sort=False):
        lengths = _lengths(of_block, names, axis)
        levels = _levels(lengths, axis)
        for cost, found in levels:
            named = f"{model} at {axis.in_words(cost)}"
            asked += [{"dataset": dataset, "model": model, "level": named, **row} for rows in found for row in rows]
        if levels:
            ranked = max(levels, key=lambda level: (len(level[1]), level[0]))[0]
            blocks.add((str(dataset), f"{model} at {axis.in_words(ranked)}"))
        compared = {row["name"] for _, found in levels for rows in found for row in rows}
        of_model = of_block["optimizer"].map(names).unique()
        left_out += [
            f"{name} on {dataset}, {model} ({_costs(lengths.get(name), axis)})"
            for name in of_model
            if name not in compared
        ]
    causes = "; ".join(left_out)
    if not asked:
        raise InputError(
            f"--by {by}: no two optimizers have trainings of the same cost: {causes}; give each several lengths, as by "
            "sweep.training = [{epochs = 10}, {epochs = 20}]"
        )
    warnings = (f"left out, because no other optimizer's trainings reach the same cost: {causes}",) if causes else ()
    return AtCost(_cells(cells, pd.DataFrame(asked), axis), names, frozenset(blocks), warnings)


def _names(cells: pd.DataFrame, made_of: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The name of all lengths of a training: the words that their labels begin with."""
    labels: dict[str, list[str]] = {}
    for label, group in cells[["optimizer", "group"]].drop_duplicates().itertuples(index=False, name=None):
        of_family = labels.setdefault(_family(made_of.get(group, {"group": group})), [])
        if label not in of_family:
            of_family.append(label)
    joined: dict[str, list[str]] = {}  # a label may mean something else on another data set
    for several in labels.values():
        for label in several:
            joined.setdefault(label, []).extend(one for one in several if one not in joined.get(label, ()))
    named = {label: _beginning(several) for label, several in joined.items()}
    meant: dict[str, set[tuple[str, ...]]] = {}
    for label, several in joined.items():
        meant.setdefault(named[label], set()).add(tuple(sorted(several)))
    return {
        label: named[label] if len(meant[named[label]]) == 1 else " / ".join(several)
        for label, several in joined.items()
    }


def _family(description: Mapping[str, Any]) -> str:
    """Identifies a training: the same for all its lengths, seeds, data sets and models."""
    optimizer = dict(description.get("optimizer") or {})
    recipe = {name: value for name, value in (optimizer.get("training") or {}).items() if name not in LENGTH}
    of_no_length = {name: value for name, value in description.items() if name not in ("seed", *BLOCK)}
    return content_key({**of_no_length, "optimizer": {**optimizer, "training": recipe}})


def _beginning(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return labels[0]
    common = []
    for words in zip(*(label.split() for label in labels), strict=False):
        if len({word.rstrip(",;:") for word in words}) > 1 or re.search(r"[({=]", words[0]):
            break
        common.append(words[0])
    return " ".join(common).rstrip(",;:") or " / ".join(labels)


@dataclass(frozen=True)
class _Lengths:
    """The lengths of one training on one data set and model.

    Attributes:
        labels: of their optimizers, cheapest first.
        costs: a column per label, a row per seed.
    """

    labels: list[str]
    costs: pd.DataFrame


def _lengths(cells: pd.DataFrame, names: Mapping[str, str], axis: Axis) -> dict[str, _Lengths]:
    """Lengths with a known cost, by the training's name; a seed of unknown cost has the mean of the others."""
    trials = cells[["optimizer", "seed", axis.column]].drop_duplicates(["optimizer", "seed"])
    trials = trials.assign(cost=pd.to_numeric(trials[axis.column]))
    found = {}
    for name, of_name in trials.groupby(trials["optimizer"].map(names), sort=False):
        costs = of_name.pivot(index="seed", columns="optimizer", values="cost").dropna(axis=1, how="all")
        costs = costs.fillna(costs.mean())
        labels = costs.mean().sort_values(kind="stable").index.tolist()
        if labels:
            found[str(name)] = _Lengths(labels, costs[labels])
    return found


def _levels(lengths: Mapping[str, _Lengths], axis: Axis) -> list[tuple[float, list[list[dict[str, Any]]]]]:
    """Costs that at least two optimizers reach, cheapest first, with what each one's cells there are made of."""
    levels = []
    for of_name in lengths.values():
        for label in of_name.labels:
            at = of_name.costs[label]
            found = [rows for name, other in lengths.items() if (rows := _reached(name, other, at, axis.tolerance))]
            levels.append((float(at.mean()), found))
    kept: list[tuple[float, list[list[dict[str, Any]]]]] = []
    for cost, found in sorted(levels, key=lambda level: (-len(level[1]), level[0])):
        if len(found) > 1 and all(abs(np.log(cost / other)) > axis.tolerance for other, _ in kept):
            kept.append((cost, found))
    return sorted(kept, key=lambda level: level[0])


def _reached(name: str, lengths: _Lengths, at: pd.Series[float], tolerance: float) -> list[dict[str, Any]]:
    """For each seed the two lengths around a cost, and the weight of the longer; empty if a seed has none.

    Args:
        name: of the training.
        lengths: of the training.
        at: the cost for each seed; for a missing seed the mean.
        tolerance: as in `Axis`.
    """
    rows = []
    for seed, costs in zip(lengths.costs.index, lengths.costs.to_numpy(dtype=float), strict=True):
        cost = float(at.get(seed, at.mean()))
        nearest = int(np.abs(np.log(costs / cost)).argmin())
        order = np.argsort(costs, kind="stable")
        place = int(np.searchsorted(costs[order], cost))
        if abs(np.log(costs[nearest] / cost)) <= tolerance:
            shorter, longer, weight = nearest, nearest, 0.0
        elif 0 < place < len(costs):
            shorter, longer = int(order[place - 1]), int(order[place])
            weight = float(np.log(cost / costs[shorter]) / np.log(costs[longer] / costs[shorter]))
        else:
            return []
        labels = {"optimizer": lengths.labels[shorter], "longer": lengths.labels[longer]}
        rows.append({"name": name, "seed": seed, **labels, "weight": weight, "cost": cost})
    return rows


def _cells(cells: pd.DataFrame, asked: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    """The cells of the levels, each made of the cells of one or two trials."""
    shorter = asked.merge(cells, on=[*TRIAL, "seed"])
    others = [*BLOCK, "seed", "optimizer", "pruner", "of", "ratio"]
    both = shorter.merge(
        cells.rename(columns={"optimizer": "longer"}),
        on=[name if name != "optimizer" else "longer" for name in others],
        suffixes=("", " of the longer"),
    )
    found = both[[*asked.columns, *(name for name in cells if name not in asked)]].copy()
    weight = both["weight"].to_numpy(dtype=float)
    for name in cells:
        longer = f"{name} of the longer"
        number = pd.api.types.is_numeric_dtype(both[name]) and not pd.api.types.is_bool_dtype(both[name])
        if longer in both and name not in NO_NUMBERS and number:
            found[name] = _between(both[name].to_numpy(dtype=float), both[longer].to_numpy(dtype=float), weight)
    undone = (both["status"] == "done") & (both["status of the longer"] != "done") & (weight > 0)
    found["status"] = both["status"].mask(undone, both["status of the longer"])
    if "trained" in found:
        found["trained"] = both["trained"] & (both["trained of the longer"] | (weight == 0))
    found["interpolated"] = weight > 0
    found["key"] = both["key"].mask(weight > 0, "")
    found[axis.column] = both["cost"].where(weight > 0, both[axis.column])
    found = found.assign(model=both["level"], optimizer=both["name"])
    order = {label: number for number, label in enumerate(dict.fromkeys(asked["level"]))}
    found = found.iloc[np.argsort(found["model"].map(order).to_numpy(), kind="stable")]
    return found[[*cells.columns, "interpolated"]].reset_index(drop=True)


def _between(shorter: Floats, longer: Floats, weight: Floats) -> Floats:
    # Where the longer one has no weight, its unknown numbers must not make known ones unknown.
    return np.where(weight > 0, (1 - weight) * shorter + weight * longer, shorter)


def _plain(cost: float) -> str:
    """Three significant digits, or all that are before the point."""
    return f"{cost:.0f}" if cost >= 1000 else f"{float(f'{cost:.3g}'):g}"


def _costs(lengths: _Lengths | None, axis: Axis) -> str:
    if lengths is None:
        return "no training of a known cost"
    return axis.in_words(*lengths.costs.mean())
