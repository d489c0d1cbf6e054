"""Two results folders side by side: what became better or worse from one to the other."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sgabench.errors import InputError
from sgabench.evidence.comparison import DENSE, Question, compare
from sgabench.evidence.cubes import cubes
from sgabench.evidence.leaderboard import Tables, make_tables
from sgabench.store.store import Store
from sgabench.suite.plan import Plan

PLACE = ["dataset", "model", "optimizer", "pruner", "of", "ratio"]
CONTEXT = ["dataset", "model"]
SEPARATOR = "\x1f"  # in no label


def side_by_side(first: Tables, second: Tables, names: tuple[str, str]) -> pd.DataFrame:
    """Compare the accuracies of two sets of tables, seed by seed, matching trials and cells by their labels.

    Where a side has several optimizers or pruners with one label, those that are the same on both sides are paired.

    Args:
        first: the reference, an older commit or another machine.
        second: what is compared with it.
        names: what verdicts call the two.

    Returns:
        A row per data set, model, optimizer and pruning; whole curves have the ratio NaN, dense networks the pruner
        `DENSE`. ``n_paired`` seeds that both have, ``first_mean`` and ``second_mean`` over these, each side's
        ``first_n`` and ``second_n``, and the comparison second - first as in `sgabench.evidence.comparison.compare`.
        ``verdict`` also says where one side has nothing, where a trial or cell of the same label was made with other
        settings, and where every seed gave the same result.
    """
    sides = _called_alike([_measured(tables) for tables in (first, second)])
    both = pd.concat([side.assign(side=name) for side, name in zip(sides, names, strict=True)], ignore_index=True)
    if both.empty:
        return pd.DataFrame(columns=[*PLACE, "outcome", "verdict"])
    # Optimizers are compared in the same way; here the folders take their place.
    shifted = both[both["pruner"] != DENSE]
    shifted = shifted.assign(model=shifted["model"] + SEPARATOR + shifted["optimizer"])
    shifted = shifted.drop(columns="optimizer").rename(columns={"side": "optimizer"})
    compared = compare(cubes(shifted), Question(names[0]))
    compared[["model", "optimizer"]] = compared["model"].str.split(SEPARATOR, expand=True).reindex(columns=[0, 1])
    rows = both[PLACE].drop_duplicates().merge(compared.drop(columns=["first", "second"]), on=PLACE, how="outer")
    for side, part in zip(("first", "second"), sides, strict=True):
        counts = part.groupby(PLACE, sort=False)["counted_top1"].count().rename(f"{side}_n")
        rows = rows.merge(counts.reset_index(), on=PLACE, how="left")
    common = _common(*sides)
    rows = rows.merge(common, on=PLACE, how="left")
    # `compare` gives dense networks only beside curves of both sides; their common seeds are known in any case.
    rows["n_paired"] = rows.pop("n_dense").where(rows["pruner"] == DENSE, rows["n_paired"])
    numbers = ["first_n", "second_n", "n_paired", "more_seeds", "most_seeds"]
    rows[numbers] = rows[numbers].fillna(0).astype(int)
    rows["outcome"] = rows["outcome"].astype(object).fillna("none")
    order = {place: number for number, place in enumerate(both[PLACE[:5]].drop_duplicates().itertuples(index=False))}
    places = [order.get(place, len(order)) for place in rows[PLACE[:5]].itertuples(index=False)]
    rows = rows.assign(place=places).sort_values(["place", "ratio"], kind="stable", na_position="first")
    return _explained(rows.drop(columns="place").reset_index(drop=True), sides[0], sides[1], names)


def _measured(tables: Tables) -> pd.DataFrame:
    """The accuracy that counts of every dense and pruned network, with its record's key."""
    columns = [*PLACE, "seed", "counted_top1", "counted_dense", "test_images", "compression_ratio", "key"]
    parts = [pd.DataFrame(columns=columns)]
    trials, cells = tables.trials, tables.cells
    if len(trials):
        dense = trials.assign(pruner=DENSE, of="", ratio=0.0, counted_dense=trials["counted_top1"])
        parts.append(dense.reindex(columns=[*columns, "theoretical_speedup"]))
    if len(cells):
        parts.append(cells.reindex(columns=[*columns, "theoretical_speedup"]))
    found = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    return found[found["counted_top1"].notna()]


def _called_alike(sides: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Both sides, with one label for what has the same keys: the longer one, which names what makes it different."""
    for label in ("optimizer", "pruner"):
        first, second = (side.set_index("key")[[*CONTEXT, label]] for side in sides)
        both = first.join(second[label].rename("other"), how="inner").drop_duplicates()
        pairs = both[both[label] != both["other"]].itertuples(index=False, name=None)
        names = {(*place, own): max(own, other, key=len) for *place, a, b in pairs for own, other in ((a, b), (b, a))}
        for number, side in enumerate(sides if names else ()):
            places = side[[*CONTEXT, label]].itertuples(index=False, name=None)
            sides[number] = side.assign(**{label: [names.get(place, place[-1]) for place in places]})
    return sides


def _common(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Means of both sides over the seeds that both have."""
    sides = [side.set_index([*PLACE, "seed"])["counted_top1"] for side in (a, b)]
    common = pd.concat(sides, axis=1, join="inner", keys=["first_mean", "second_mean"])
    common["alike"] = common["first_mean"] == common["second_mean"]
    common["n_dense"] = 1
    cells = common.groupby(level=PLACE, sort=False).agg(
        {"first_mean": "mean", "second_mean": "mean", "alike": "all", "n_dense": "sum"}
    )
    found = cells.reset_index()
    pruned = found[found["pruner"] != DENSE]
    curves = pruned.groupby(PLACE[:5], sort=False, as_index=False).agg(
        {"first_mean": "mean", "second_mean": "mean", "alike": "all"}
    )
    return pd.concat([found, curves.assign(ratio=float("nan"))], ignore_index=True)


def _explained(rows: pd.DataFrame, a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """Say in the verdict what the numbers alone do not show."""
    keys = [part.set_index([*PLACE, "seed"])["key"] for part in (a, b)]
    common = pd.concat(keys, axis=1, join="inner", keys=["first", "second"])
    other = common[common["first"] != common["second"]].reset_index()[PLACE]
    changed = pd.MultiIndex.from_frame(rows[PLACE]).isin(pd.MultiIndex.from_frame(other))
    rows["verdict"] = rows["verdict"].astype(object).fillna("")
    alike = rows.pop("alike").fillna(False).astype(bool)
    rows.loc[alike, ["verdict", "outcome"]] = ["identical", "same"]
    rows.loc[changed, "verdict"] += "; other settings"
    single = rows["ratio"].notna()
    for side, name in (("first_n", names[1]), ("second_n", names[0])):
        rows.loc[single & (rows[side] == 0), "verdict"] = f"only in {name}"
    apart = (rows["first_n"] > 0) & (rows["second_n"] > 0) & (rows["n_paired"] == 0)
    rows.loc[apart, "verdict"] = "no common seed"
    ratios = rows.groupby(PLACE[:5], sort=False)["ratio"].transform("count")
    return rows[single | ((rows["n_paired"] > 0) & (ratios > 1))].reset_index(drop=True)


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
