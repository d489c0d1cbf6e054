"""Two results folders side by side: what became better or worse from one to the other."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sgabench.errors import InputError
from sgabench.evidence.comparison import compare, verdict, verdicts
from sgabench.evidence.leaderboard import Tables, make_tables
from sgabench.store.store import Store
from sgabench.suite.plan import Plan

PLACE = ["dataset", "model", "optimizer", "pruner", "of", "ratio"]
DENSE = "(dense)"


def side_by_side(first: Tables, second: Tables, names: tuple[str, str]) -> pd.DataFrame:
    """Compare the top-1 accuracy of two sets of tables, seed by seed, by the labels of trials and cells.

    Args:
        first: the reference, an older commit or another machine.
        second: what is compared with it.
        names: what verdicts call the two.

    Returns:
        A row per data set, model, optimizer and pruning, the dense network (`DENSE`) among them: ``first_n``,
        ``first_mean``, ``second_n``, ``second_mean``, and ``difference`` (second - first), ``difference_low``,
        ``difference_high``, ``p_adjusted``, ``outcome``, ``verdict`` as in `comparison.verdicts`; Holm's
        family is all rows of a data set and model. ``verdict`` says where one side has nothing, and where a trial
        or a cell of the same label was made with other settings, and where every seed gave the same.
    """
    a, b = (_measured(tables) for tables in (first, second))
    both = pd.concat([a.assign(side=names[0]), b.assign(side=names[1])], ignore_index=True)
    if both.empty:
        return pd.DataFrame(columns=[*PLACE, "verdict"])
    rows = both[PLACE].drop_duplicates().set_index(PLACE)
    for side, name in (("first", names[0]), ("second", names[1])):
        of_side = both[both["side"] == name].groupby(PLACE, sort=False)["top1"]
        rows[f"{side}_n"] = of_side.size()
        rows[f"{side}_mean"] = of_side.mean()
    rows = rows.fillna({"first_n": 0, "second_n": 0}).astype({"first_n": int, "second_n": int})
    # The same comparison as of optimizers, with the folders in their place.
    shifted = both.rename(columns={"optimizer": "trained_by", "side": "optimizer"})
    context = ["trained_by" if name == "optimizer" else name for name in PLACE]
    told = pd.concat([verdicts(pairs, names[0]) for pairs in compare(shifted, "top1", context)])
    told = told[told["optimizer"] == names[1]].drop(columns=["optimizer", "best"])
    told["verdict"] = [verdict(row) for row in told.to_dict("records")]
    rows = rows.join(told.rename(columns={"trained_by": "optimizer"}).set_index(PLACE)).reset_index()
    return _explained(rows, a, b, names)


def _measured(tables: Tables) -> pd.DataFrame:
    """Top-1 of every dense and pruned network, with the key that it was stored by."""
    columns = [*PLACE, "seed", "top1", "key"]
    parts = [pd.DataFrame(columns=columns)]
    trials, cells = tables.trials, tables.cells
    if len(trials) and "top1" in trials:
        done = trials[trials["status"] == "done"]
        parts.append(done.assign(pruner=DENSE, of="", ratio=0.0)[columns])
    if len(cells):
        done = cells[cells["status"] == "done"].rename(columns={"pruned_top1": "top1"})
        parts.append(done[columns])
    return pd.concat([part for part in parts if len(part)] or parts)


def _explained(rows: pd.DataFrame, a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """Put into words what numbers alone would leave open."""
    keys = [part.set_index([*PLACE, "seed"])["key"] for part in (a, b)]
    common = pd.concat(keys, axis=1, join="inner", keys=["first", "second"])
    other = common[common["first"] != common["second"]].reset_index()[PLACE]
    changed = pd.MultiIndex.from_frame(rows[PLACE]).isin(pd.MultiIndex.from_frame(other))
    same = (rows["difference_low"] == 0) & (rows["difference_high"] == 0)
    rows["verdict"] = rows["verdict"].fillna("").mask(same, "identical")
    rows.loc[changed, "verdict"] += "; other settings"
    for side, name in (("first_n", names[1]), ("second_n", names[0])):
        rows.loc[rows[side] == 0, "verdict"] = f"only in {name}"
    apart = (rows["first_n"] > 0) & (rows["second_n"] > 0) & (rows["outcome"] == "none")
    rows.loc[apart, "verdict"] = "no common seed"
    return rows


def read(folder: Path, plan: Plan | None) -> Tables:
    """The tables of a results folder.

    Raises:
        InputError: there is no store.
    """
    if not (folder / "store.sqlite").is_file():
        raise InputError(f"results folder {folder}: holds no store; name the folder that --results named")
    with Store(folder) as store:
        return make_tables(store, plan)


def folder_names(first: Path, second: Path) -> tuple[str, str]:
    """The shortest different names of two folders.

    Raises:
        InputError: it is the same folder.
    """
    a, b = first.resolve(), second.resolve()
    if a == b:
        raise InputError(f"results folders {first} and {second}: are the same")
    if a.name != b.name:
        return a.name, b.name
    return str(first), str(second)
