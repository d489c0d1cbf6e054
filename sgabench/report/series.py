"""The data of every figure, the same for the interactive page and the static files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sgabench.evidence.budgets import IS_BUDGET
from sgabench.evidence.details import Details
from sgabench.evidence.intervals import Floats
from sgabench.evidence.leaderboard import Tables
from sgabench.evidence.verdicts import GROUP
from sgabench.report.display import ratio as asked

# Okabe and Ito's colours without black and yellow, which would be invisible on one of the two backgrounds.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "pentagon")
NETWORK = ["dataset", "model", "optimizer"]
MADE_IN = ["machine", "device", "threads"]
AXES = {"ratio": "ratio", "compression": "compression_ratio", "macs": "theoretical_speedup"}
MEASURES = {
    "loss": "loss of the training batches",
    "top1": "top-1 of the training batches, %",
    "validation_top1": "top-1 on the validation split, %",
}


@dataclass(frozen=True)
class Style:
    """How an optimizer looks in every figure."""

    color: str
    dash: str
    symbol: str

    @property
    def repeated(self) -> bool:
        """Whether another one has the same colour."""
        return self.dash != DASHES[0]


@dataclass(frozen=True)
class Curve:
    """Top-1 of an optimizer over a pruner's ratios, the dense network first where it is known.

    ``x`` by axis (`AXES`); ``mean``, ``low`` and ``high`` in percent, limits NaN with one seed. ``seeds`` has a column
    per axis and ``top1``, a row per seed and ratio.
    """

    optimizer: str
    x: Mapping[str, Floats]
    mean: Floats
    low: Floats
    high: Floats
    seeds: pd.DataFrame


@dataclass(frozen=True)
class Panel:
    """What is drawn into one pair of axes."""

    title: str
    lines: tuple[Any, ...]
    of: str = ""


@dataclass(frozen=True)
class Cloud:
    """Networks of one optimizer by cost (images/s, or parameters) and top-1 in percent, and what each is."""

    optimizer: str
    pruners: tuple[str, ...]
    texts: tuple[str, ...]
    cost: Floats
    top1: Floats


@dataclass(frozen=True)
class Line:
    """A line of an optimizer, with the range over seeds where there is one."""

    optimizer: str
    x: Floats
    y: Floats
    least: Floats
    most: Floats
    n: int


@dataclass(frozen=True)
class HeatMap:
    """Percent of zeros, a row per layer, a column per (ratio, optimizer)."""

    title: str
    layers: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    percent: Floats


def styles(tables: Tables, details: Details) -> dict[str, Style]:
    """A look for every optimizer, in the order of the suite."""
    names: dict[str, None] = {}
    for frame in (tables.cells, tables.trials, details.training, details.weights):
        if "optimizer" in frame:
            names.update(dict.fromkeys(frame["optimizer"]))
    return {
        str(name): Style(COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)], SYMBOLS[i % len(SYMBOLS)])
        for i, name in enumerate(names)
    }


def curve_panels(tables: Tables, *, seeds: bool = True) -> Iterator[Panel]:
    """A panel of `Curve`s per data set, model and pruner; ``seeds`` False: means only."""
    board, cells = tables.leaderboard, tables.cells
    if board.empty or not board["n"].any():
        return
    done = cells[(cells["status"] == "done") & cells["pruned_top1"].notna()]
    done = done.reindex(columns=[*done.columns, *(c for c in AXES.values() if c not in done)])
    keys = ["dataset", "model", "pruner", "of"]
    groups = done.groupby([*keys, "optimizer"], sort=False).indices
    order = {name: i for i, name in enumerate(cells["optimizer"].unique())}
    for key, part in board[board["n"] > 0].groupby(keys, sort=False):
        dataset, model, pruner, of = map(str, key)
        by_name = sorted(part.groupby("optimizer", sort=False), key=lambda item: order.get(item[0], 0))
        curves = tuple(
            _curve(str(name), rows.sort_values("ratio"), done.iloc[groups[(*key, name)] if seeds else []])
            for name, rows in by_name
        )
        title = f"{dataset}, {model}: {pruner}, {of if of in IS_BUDGET else f'of {of}'}"
        yield Panel(title, curves, of)


def _curve(name: str, rows: pd.DataFrame, cells: pd.DataFrame) -> Curve:
    columns = ("pruned_top1_mean", "pruned_top1_low", "pruned_top1_high")
    mean, low, high = (100 * rows[column].to_numpy(dtype=float) for column in columns)
    x = {axis: rows[column].to_numpy(dtype=float) for axis, column in AXES.items()}
    start = 1.0 if rows["of"].iloc[0] in IS_BUDGET else 0.0
    first = rows.iloc[0]
    if x["ratio"][0] > start and not pd.isna(first["dense_top1_mean"]):
        dense = [100 * float(first[f"dense_top1_{number}"]) for number in ("mean", "low", "high")]
        mean, low, high = (np.r_[value, values] for value, values in zip(dense, (mean, low, high), strict=True))
        x = {axis: np.r_[start if axis == "ratio" else 1.0, values] for axis, values in x.items()}
    seeds = pd.DataFrame({axis: cells[column].to_numpy(dtype=float) for axis, column in AXES.items()})
    seeds["top1"] = 100 * cells["pruned_top1"].to_numpy(dtype=float)
    seeds["seed"] = cells["seed"].to_numpy()
    return Curve(name, x, mean, low, high, seeds)


def pareto_panels(tables: Tables, cost: str) -> Iterator[Panel]:
    """A panel of `Cloud`s per data set and model; cost is ``images_per_s`` or ``nonzero_params``.

    Speeds of different machines or numbers of threads are never in one panel. Networks that are only masked, and so
    as fast as the dense one, are left out.
    """
    board = tables.leaderboard
    known = board[board[cost].notna() & board["pruned_top1_mean"].notna()]
    if cost != "images_per_s":
        yield from _pareto_panels(known, tables, _dense_size(tables, cost), cost, "")
        return
    timed = _timed(tables.cells)
    places = [timed[name] for name in MADE_IN]
    for (dataset, model), part in timed.groupby(["dataset", "model"], sort=False):
        of_model = known[(known["dataset"] == dataset) & (known["model"] == model)]
        made_in = list(part.groupby([place.loc[part.index] for place in places], sort=False))
        for environment, rows in made_in:
            medians = rows.groupby(GROUP, sort=False)["images_per_s"].median().rename(cost)
            here = of_model.drop(columns=cost).merge(medians.reset_index(), on=GROUP)
            dense = (rows["images_per_s"] / rows["measured_speedup"]).groupby([rows[name] for name in NETWORK]).median()
            made_on = f", {_environment(*map(str, environment))}" if len(made_in) > 1 else ""
            yield from _pareto_panels(here, tables, dense.dropna().to_dict(), cost, made_on)


def _timed(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with a speed, with all that it depends on."""
    names = [*GROUP, *MADE_IN, "images_per_s", "measured_speedup", "status"]
    found = cells.reindex(columns=names)
    found = found[(found["status"] == "done") & found["images_per_s"].notna()]
    return found.assign(**{name: found[name].astype(str) for name in MADE_IN})


def _environment(machine: str, device: str, threads: str) -> str:
    return f"{device}: {machine}, {threads} thread{'s' if threads != '1' else ''}"


def _pareto_panels(
    known: pd.DataFrame, tables: Tables, dense: Mapping[Any, float], cost: str, made_on: str
) -> Iterator[Panel]:
    order = {name: i for i, name in enumerate(tables.cells.get("optimizer", pd.Series(dtype=object)).unique())}
    for (dataset, model), part in known.groupby(["dataset", "model"], sort=False):
        clouds = []
        for name, rows in sorted(part.groupby("optimizer", sort=False), key=lambda item: order.get(item[0], 0)):
            points = [
                (str(row["pruner"]), f"{row['pruner']}, {asked(row)}", float(row[cost]), float(row["pruned_top1_mean"]))
                for row in rows.to_dict("records")
            ]
            if (dataset, model, name) in dense and rows["dense_top1_mean"].notna().any():
                top1 = float(rows["dense_top1_mean"].dropna().iloc[0])
                points.insert(0, ("", "dense", dense[dataset, model, name], top1))
            pruners, texts, costs, top1s = zip(*points, strict=True)
            clouds.append(Cloud(str(name), pruners, texts, np.array(costs), 100 * np.array(top1s)))
        yield Panel(f"{dataset}, {model}{made_on}", tuple(clouds))


def _dense_size(tables: Tables, cost: str) -> dict[Any, float]:
    """What the dense networks of each optimizer take."""
    if cost not in tables.trials:
        return {}
    return dict(tables.trials.groupby(NETWORK, sort=False)[cost].mean().dropna())


def pareto_front(cost: Floats, top1: Floats, *, more_is_better: bool) -> list[int]:
    """Numbers of the points that no other point beats in both, the best cost first."""
    order = np.lexsort((-top1, -cost if more_is_better else cost))
    front: list[int] = []
    for i in order:
        if not front or top1[i] > top1[front[-1]]:
            front.append(int(i))
    return front


def weight_panels(details: Details, order: Mapping[str, Style]) -> Iterator[Panel]:
    """A panel of `Line`s per data set and model: log10 |w| and percent of the weights in each bin."""
    for (dataset, model), part in details.weights.groupby(["dataset", "model"], sort=True):
        lines = []
        for name, rows in _in_order(part, order):
            x = (rows["low"].to_numpy(dtype=float) + rows["high"].to_numpy(dtype=float)) / 2
            y = 100 * rows["share"].to_numpy(dtype=float)
            lines.append(Line(name, x, y, y, y, int(rows["n"].iloc[0])))
        yield Panel(f"{dataset}, {model}", tuple(lines))


def training_panels(details: Details, order: Mapping[str, Style], measure: str) -> Iterator[Panel]:
    """A panel of `Line`s per data set and model; accuracies in percent."""
    scale = 1.0 if measure == "loss" else 100.0
    chosen = details.training[details.training["measure"] == measure]
    for (dataset, model), part in chosen.groupby(["dataset", "model"], sort=True):
        lines = []
        for name, rows in _in_order(part, order):
            rows = rows.sort_values("epoch")
            y, least, most = (scale * rows[column].to_numpy(dtype=float) for column in ("mean", "least", "most"))
            lines.append(Line(name, rows["epoch"].to_numpy(dtype=float), y, least, most, int(rows["n"].max())))
        yield Panel(f"{dataset}, {model}", tuple(lines))


def _in_order(part: pd.DataFrame, order: Mapping[str, Style]) -> list[tuple[str, pd.DataFrame]]:
    found = {str(name): rows for name, rows in part.groupby("optimizer", sort=False)}
    return [(name, found[name]) for name in order if name in found]


def layer_maps(details: Details, order: Mapping[str, Style]) -> Iterator[HeatMap]:
    """A heat map per data set, model and pruner."""
    for (dataset, model, pruner, of), part in details.layers.groupby(["dataset", "model", "pruner", "of"], sort=False):
        layers = sorted(part["layer"].unique(), key=_natural)
        columns = [
            (f"{value:g}", name)
            for value in sorted(part["ratio"].unique())
            for name in order
            if ((part["ratio"] == value) & (part["optimizer"] == name)).any()
        ]
        table = part.pivot_table(index="layer", columns=["ratio", "optimizer"], values="sparsity", sort=False)
        wanted = pd.MultiIndex.from_tuples([(float(value), name) for value, name in columns])
        percent = 100 * table.reindex(index=layers).reindex(columns=wanted).to_numpy(dtype=float)
        yield HeatMap(f"{dataset}, {model}: {pruner}, of {of}", tuple(map(str, layers)), tuple(columns), percent)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort ``layer10`` behind ``layer2``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(name))]


def cliques(ranks: Floats, critical_difference: float) -> list[tuple[int, int]]:
    """First and last number of every largest run of sorted mean ranks within the critical difference."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = int(np.searchsorted(ranks, ranks[first] + critical_difference, side="right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
