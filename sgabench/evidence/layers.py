"""What is left of every layer: its zeros and its channels, from a store, averaged over seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sgabench.evidence.leaderboard import Tables
from sgabench.evidence.probes import in_order
from sgabench.store.store import Record, Store

SUBJECT = ["dataset", "model", "pruner", "of", "ratio", "optimizer"]
COLUMNS = [*SUBJECT, "layer", "n", "sparsity", "channels"]
DENSE: dict[str, Any] = {"pruner": "", "of": "", "ratio": np.nan}


def layer_table(store: Store, tables: Tables) -> pd.DataFrame:
    """Every layer of the dense and the pruned networks of the tables.

    Returns:
        `COLUMNS`: a row per network and layer, by name; ``sparsity`` and ``channels`` (or output
        features; NaN where a record has none) are means over ``n`` seeds. A dense network has the pruner "".
    """
    parts = [frame[["key", *SUBJECT]] for frame in (tables.trials.assign(**DENSE), tables.cells) if len(frame)]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    subjects = pd.concat(parts, ignore_index=True)
    subjects = subjects[subjects["key"].astype(bool)]  # at equal budgets there are no networks
    keys = set(subjects["key"])
    rows = [
        (record.key, layer, sparsity, channels)
        for kind in ("trial", "cell")
        for record in store.records(kind, keys, detail=True, description=False)
        for layer, sparsity, channels in _layers(record)
    ]
    layers = pd.DataFrame(rows, columns=["key", "layer", "sparsity", "channels"])
    found = subjects.reset_index(names="place").merge(layers, on="key").astype({"sparsity": float, "channels": float})
    groups = found.groupby([*SUBJECT, "layer"], sort=False, dropna=False)
    means = groups.agg(
        place=("place", "min"),
        n=("sparsity", "count"),
        sparsity=("sparsity", "mean"),
        channels=("channels", "mean"),
    ).reset_index()
    by_name = means.sort_values("layer", kind="stable", key=lambda names: names.map(_natural))
    return in_order(by_name, [])[COLUMNS]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts ``layer2`` before ``layer10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _layers(record: Record) -> list[tuple[str, Any, Any]]:
    sparsity, channels = (record.detail.get(name) for name in ("layer_sparsity", "layer_channels"))
    if record.status != "done" or not isinstance(sparsity, Mapping):
        return []
    known = channels if isinstance(channels, Mapping) else {}
    return [(str(layer), value, known.get(layer)) for layer, value in sparsity.items()]
