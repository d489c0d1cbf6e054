"""What only figures show: training histories, weight histograms and layers, from a store, averaged over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sgabench.evidence.intervals import Floats
from sgabench.evidence.leaderboard import Tables
from sgabench.store.store import Record, Store

TRIAL = ["dataset", "model", "optimizer"]
BLOCK = ["dataset", "model", "pruner", "of"]
TRAINING = ("loss", "top1", "validation_top1")
TRAINING_COLUMNS = [*TRIAL, "measure", "epoch", "n", "mean", "least", "most"]
WEIGHT_COLUMNS = [*TRIAL, "n", "low", "high", "share"]
LAYER_COLUMNS = [*BLOCK, "ratio", "optimizer", "layer", "sparsity"]
MOST_BLOCKS = 24  # of layer sparsities: nobody looks at more than that one by one


@dataclass(frozen=True)
class Details:
    """Per epoch, per bin of a histogram and per layer; each may be empty.

    Attributes:
        training: `TRAINING_COLUMNS`: a row per optimizer, measure (on the training batches; validation_top1 on the
            validation split) and epoch, over ``n`` seeds.
        weights: `WEIGHT_COLUMNS`: a row per optimizer and bin of log10 |w|; ``share`` of all weights, mean over seeds.
        layers: `LAYER_COLUMNS`: a row per optimizer, ratio and layer, of pruners that zero weights; mean over seeds.
        layer_blocks: number of (data set, model, pruner, of) with layers; ``layers`` has the first `MOST_BLOCKS`.
    """

    training: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=TRAINING_COLUMNS))
    weights: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=WEIGHT_COLUMNS))
    layers: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=LAYER_COLUMNS))
    layer_blocks: int = 0


def load_details(store: Store, tables: Tables) -> Details:
    """Read the details of the tables' trials and cells, holding just a running sum per group in memory."""
    trials = _labels(tables.trials, TRIAL)
    training: dict[tuple[Any, ...], _Sum] = {}
    groups: dict[str, str] = {}
    for record in store.records("trial", trials, detail=True):
        groups[record.key] = str(record.labels.get("group", ""))
        for labels in trials[record.key]:
            _add_history(training, (*labels, groups[record.key]), record)
    weights: dict[tuple[Any, ...], tuple[Floats, _Sum]] = {}
    for record in store.records("probe", detail=True):
        for labels in trials.get(record.parent or "", ()):
            _add_weights(weights, (*labels, groups.get(record.parent or "", "")), record)
    layers, blocks = _layers(store, tables)
    named = _distinct_names({key[:4] for key in training} | set(weights))
    return Details(_training_frame(training, named), _weights_frame(weights, named), layers, blocks)


@dataclass
class _Sum:
    """Running sum and range of arrays of one shape."""

    n: int
    total: Floats
    least: Floats
    most: Floats

    @classmethod
    def add(cls, sums: dict[Any, _Sum], key: Any, values: Floats) -> None:
        found = sums.get(key)
        if found is None:
            sums[key] = cls(1, values, values, values)
        elif len(found.total) == len(values):
            sums[key] = cls(
                found.n + 1, found.total + values, np.minimum(found.least, values), np.maximum(found.most, values)
            )


def _labels(frame: pd.DataFrame, names: list[str]) -> dict[str, list[tuple[Any, ...]]]:
    """Key to its names in the tables: entries with different labels may share a key."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    if len(frame):
        for key, *labels in frame[["key", *names]].itertuples(index=False, name=None):
            if key:
                found.setdefault(key, []).append(tuple(labels))
    return found


def _add_history(sums: dict[Any, _Sum], key: tuple[Any, ...], record: Record) -> None:
    history = [row for row in record.detail.get("history") or () if isinstance(row, Mapping)]
    for measure in TRAINING:
        known = [(row["epoch"], row[measure]) for row in history if row.get(measure) is not None and "epoch" in row]
        for epoch, value in known:
            _Sum.add(sums, (*key, measure, epoch), np.array([value], dtype=float))


def _add_weights(sums: dict[Any, tuple[Floats, _Sum]], key: tuple[Any, ...], record: Record) -> None:
    edges, whole = record.detail.get("edges"), record.detail.get("all")
    counts = whole.get("histogram") if isinstance(whole, Mapping) else None
    if not isinstance(edges, list) or not isinstance(counts, list) or len(edges) != len(counts) + 1:
        return  # another probe, or a network whose weights are not finite
    total = (whole or {}).get("count") or sum(counts)
    if not total:
        return
    bins = np.array(edges, dtype=float)
    share = np.array(counts, dtype=float) / total
    if key in sums and not np.array_equal(sums[key][0], bins):
        return  # a second probe with other bins
    of_key = {key: sums[key][1]} if key in sums else {}
    _Sum.add(of_key, key, share)
    sums[key] = bins, of_key[key]


def _layers(store: Store, tables: Tables) -> tuple[pd.DataFrame, int]:
    cells = tables.cells
    if cells.empty or not cells["key"].any():  # at equal budgets there are no networks
        return pd.DataFrame(columns=LAYER_COLUMNS), 0
    zeroed = cells[(cells["status"] == "done") & (cells.get("sparsity", pd.Series(0.0, cells.index)) > 0.01)]
    blocks = zeroed[BLOCK].drop_duplicates()
    shown = zeroed.merge(blocks.head(MOST_BLOCKS), on=BLOCK)
    labels = _labels(shown, [*BLOCK, "ratio", "optimizer"])
    sums: dict[tuple[Any, ...], _Sum] = {}
    names: dict[tuple[Any, ...], list[str]] = {}
    for record in store.records("cell", labels, detail=True, description=False):
        sparsity = record.detail.get("layer_sparsity")
        if not isinstance(sparsity, Mapping) or not sparsity:
            continue
        values = np.array([np.nan if value is None else value for value in sparsity.values()], dtype=float)
        for key in labels[record.key]:
            if names.setdefault(key, list(sparsity)) == list(sparsity):
                _Sum.add(sums, key, values)
    rows = [
        [*key, layer, value]
        for key in dict.fromkeys(key for keys in labels.values() for key in keys)
        if key in sums
        for layer, value in zip(names[key], (sums[key].total / sums[key].n).tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=LAYER_COLUMNS), len(blocks)


def _distinct_names(keys: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """(data set, model, optimizer, group) to a name that no other group has."""
    keys = list(keys)
    groups: dict[tuple[Any, ...], set[str]] = {}
    for *labels, group in keys:
        groups.setdefault(tuple(labels), set()).add(group)
    return {key: key[:3] if len(groups[key[:3]]) == 1 else (*key[:2], f"{key[2]} [{key[3][:6]}]") for key in keys}


def _training_frame(sums: dict[tuple[Any, ...], _Sum], named: Mapping[Any, tuple[Any, ...]]) -> pd.DataFrame:
    rows = [[*named[key[:4]], *key[4:], s.n, s.total[0] / s.n, s.least[0], s.most[0]] for key, s in sums.items()]
    return pd.DataFrame(rows, columns=TRAINING_COLUMNS)


def _weights_frame(
    sums: dict[tuple[Any, ...], tuple[Floats, _Sum]], named: Mapping[Any, tuple[Any, ...]]
) -> pd.DataFrame:
    rows = [
        [*named[key], s.n, low, high, share]
        for key, (edges, s) in sums.items()
        for low, high, share in zip(edges[:-1], edges[1:], s.total / s.n, strict=True)
    ]
    return pd.DataFrame(rows, columns=WEIGHT_COLUMNS)
