"""Results of probes: the numbers at the top level of their dictionaries, over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sgabench.evidence.columns import Columns

SUBJECT = ["dataset", "model", "pruner", "of", "ratio", "optimizer"]
COLUMNS = ["probe", "number", *SUBJECT, "n", "mean", "std"]
_PROBE, _KEY, _NUMBER, _VALUE = ("\x1fprobe", "\x1fkey", "\x1fnumber", "\x1fvalue")  # in no name of a number


def in_order(rows: pd.DataFrame, first: list[str]) -> pd.DataFrame:
    """Sort by some columns, data set, model, pruner, ratio and ``place``; names in the order of their places."""
    by = {name: rows.groupby(name, sort=False)["place"].transform("min") for name in ("dataset", "model", "pruner")}
    ranked = rows.assign(**{f"{name} place": places for name, places in by.items()})
    ranked = ranked.sort_values([*first, *(f"{name} place" for name in by), "ratio", "place"], kind="stable")
    return ranked[list(rows)].reset_index(drop=True)


def probe_numbers(records: Columns, trials: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every number of every probe.

    Args:
        records: of probes.
        trials, cells: their subjects, with labels and keys; probes of others are left out.

    Returns:
        `COLUMNS`: a row per probe, number and subject; a dense network has the pruner "" and the ratio NaN.
    """
    results = records.results.frame()
    done = np.array([status == "done" for status in records.statuses], dtype=bool)
    if results.empty or not done.any() or trials.empty:
        return pd.DataFrame(columns=COLUMNS)
    labels = records.labels.frame(["probe"])["probe"]
    of = results.assign(**{_PROBE: labels.to_numpy(), _KEY: np.array(records.parents, dtype=object)})[done]
    values = of.melt(id_vars=[_PROBE, _KEY], var_name=_NUMBER, value_name=_VALUE).dropna(subset=[_VALUE])
    dense = trials.assign(pruner="", of="", ratio=np.nan)
    subjects = pd.concat([part[["key", *SUBJECT]] for part in (dense, cells) if len(part)], ignore_index=True)
    rows = subjects.reset_index(names="place").merge(values, left_on="key", right_on=_KEY)
    rows[_VALUE] = rows[_VALUE].astype(float)
    groups = rows.groupby([_PROBE, _NUMBER, *SUBJECT], sort=False, dropna=False)
    found = groups.agg(place=("place", "min"), n=(_VALUE, "count"), mean=(_VALUE, "mean"), std=(_VALUE, "std"))
    found = found.reset_index().rename(columns={_PROBE: "probe", _NUMBER: "number"})
    return in_order(found, ["probe", "number"])[COLUMNS]
