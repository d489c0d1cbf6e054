"""Cells to comparisons: pairs of optimizers, verdicts, curves over ratios, ranks, equal budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sgabench.statistics import (
    ALPHA,
    MOST_SEEDS,
    Floats,
    area_under_curve,
    holm,
    largest_keeping,
    paired_difference,
    rank_treatments,
    seeds_needed,
    summarize,
)

CONTEXT = ["dataset", "model", "pruner", "of", "ratio"]
CURVE = ["dataset", "model", "pruner", "of"]
RESOLUTION = 0.02  # the difference, in fractions, that seeds should resolve: two points
KEEPS = (0.99, 0.95, 0.9)
PAIR_NUMBERS = ("difference", "low", "high", "p", "p_adjusted", "effect_size")
PAIR_COLUMNS = [*CONTEXT, "metric", "first", "second", "n", *PAIR_NUMBERS, "test"]
VERDICT_COLUMNS = ["reference", "difference", "difference_low", "difference_high", "p_adjusted", "outcome", "best"]
BUDGETS = {"compression": "compression_ratio", "macs": "theoretical_speedup"}
BUDGET_UNITS = {"compression": "compression", "macs": "theoretical speedup"}  # in place of what a ratio is of
IS_BUDGET = frozenset(BUDGET_UNITS.values())
LEVELS = tuple(base * 2.0**power for power in range(12) for base in (1.0, 1.25, 1.5))[1:]


@dataclass(frozen=True)
class Pairs:
    """All pairs of optimizers of one data set and model at each context: one family of comparisons.

    Attributes:
        metric: what is compared.
        contexts: a row per context (pruner and ratio).
        optimizers: in order of appearance.
        means: of the metric, shape (contexts, optimizers); NaN where nothing is measured.
        row: number of a pair, by the optimizers' numbers, shape (optimizers, optimizers). All that follows has a value
            per context and pair: add the number of the context times the number of pairs.
        n: seeds that both have.
        numbers: `PAIR_NUMBERS`, NaN with fewer than two seeds but for ``difference``: first - second in the metric's
            unit.
        std: standard deviation of the differences.
        test: its name.
    """

    metric: str
    contexts: pd.DataFrame
    optimizers: list[Any]
    means: Floats
    row: NDArray[np.int64]
    n: NDArray[np.int64]
    numbers: Mapping[str, Floats]
    std: Floats
    test: NDArray[Any]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per context and pair: `PAIR_COLUMNS`."""
        first, second = np.triu_indices(len(self.optimizers), 1)
        names = pd.Series(self.optimizers).array
        pair = np.tile(np.arange(len(first)), len(self.contexts))
        return pd.DataFrame(
            {
                **{str(name): self.contexts[name].array.repeat(len(first)) for name in self.contexts},
                "metric": self.metric,
                "first": names.take(first[pair]),
                "second": names.take(second[pair]),
                "n": self.n,
                **self.numbers,
                "test": self.test,
            }
        )


def compare(measured: pd.DataFrame, metric: str, context: Sequence[str] = CONTEXT) -> Iterator[Pairs]:
    """Compare every pair of optimizers at every pruning, paired by seed, a family per data set and model.

    Args:
        measured: rows with the context's columns, ``optimizer``, ``seed`` and the metric.
        metric: name of the column to compare.
        context: columns within which optimizers are compared, data set and model first.
    """
    family, _ = _numbered(measured, ["dataset", "model"])
    where, contexts = _numbered(measured, list(context))
    optimizer, optimizers = pd.factorize(measured["optimizer"])
    seed, _ = pd.factorize(measured["seed"])
    values = measured[metric].to_numpy(dtype=float)
    order = np.argsort(family, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(family))[:-1]) if len(order) else ():
        here, of_context = np.unique(where[rows], return_inverse=True)
        of_optimizer, present = pd.factorize(optimizer[rows])
        of_seed, seeds = pd.factorize(seed[rows])
        cube = np.full((len(here), len(present), len(seeds)), np.nan)
        cube[of_context, of_optimizer, of_seed] = values[rows]
        yield _pairs(cube, metric, contexts.iloc[here], list(optimizers[present]))


def _pairs(values: Floats, metric: str, contexts: pd.DataFrame, optimizers: list[Any]) -> Pairs:
    """Compare values of the shape (contexts, optimizers, seeds)."""
    first, second = np.triu_indices(len(optimizers), 1)
    a, b = (values[:, side].reshape(-1, values.shape[2]) for side in (first, second))
    numbers, n, std, test = _differences(a, b)
    row = np.zeros((len(optimizers), len(optimizers)), dtype=np.int64)
    row[first, second] = row[second, first] = np.arange(len(first))
    counts = np.sum(~np.isnan(values), axis=2)
    means = np.nansum(values, axis=2) / np.where(counts, counts, np.nan)
    named = dict(zip(PAIR_NUMBERS, numbers, strict=True))
    return Pairs(metric, contexts, optimizers, means, row, n, named, std, test)


def _numbered(frame: pd.DataFrame, columns: list[str]) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """The number of each row's combination of values, and the combinations in order of appearance."""
    numbers = frame.groupby(columns, sort=False).ngroup().to_numpy()
    return np.asarray(numbers, dtype=np.int64), frame[columns].drop_duplicates(ignore_index=True)


def _differences(a: Floats, b: Floats) -> tuple[Floats, NDArray[np.int64], Floats, NDArray[Any]]:
    """`PAIR_NUMBERS` in rows, numbers of common seeds, standard deviations, and names of tests."""
    common = ~np.isnan(a) & ~np.isnan(b)
    n = common.sum(1)
    numbers = np.full((len(PAIR_NUMBERS), len(a)), np.nan)
    std = np.full(len(a), np.nan)
    test = np.full(len(a), "", dtype=object)
    comparisons = int((n >= 2).sum())
    for seeds in np.unique(n[n >= 1]):
        rows = np.flatnonzero(n == seeds)
        of_a, of_b = (side[rows][common[rows]].reshape(-1, seeds) for side in (a, b))
        if seeds == 1:
            numbers[0, rows] = (of_a - of_b)[:, 0]
            continue
        d = paired_difference(of_a, of_b, comparisons=comparisons)
        numbers[:, rows] = d.mean, d.low, d.high, d.p, d.p, d.effect
        std[rows], test[rows] = d.std, d.test
    numbers[PAIR_NUMBERS.index("p_adjusted")] = holm(numbers[PAIR_NUMBERS.index("p")])
    return numbers, n, std, test


def verdicts(pairs: Pairs, reference: Any) -> pd.DataFrame:
    """What can be said of each optimizer at each pruning, against the reference and against the best.

    Returns:
        A row per context and optimizer: the context, ``optimizer``, `VERDICT_COLUMNS`, ``n_paired`` and
        ``seeds_needed``. ``difference`` is optimizer - reference. ``outcome`` is ``reference``, ``better``, ``worse``,
        ``same`` (no difference shown, with enough seeds to find one of two points), ``few`` (not enough seeds for
        that), ``single`` (one common seed) or ``none`` (no common seed). ``best``: the
        highest mean, and what is shown to be worse than no other; False everywhere if fewer than two seeds are common.
    """
    contexts, optimizers = len(pairs.contexts), len(pairs.optimizers)
    names = pd.Series(pairs.optimizers)
    frame: dict[str, Any] = {str(name): pairs.contexts[name].array.repeat(optimizers) for name in pairs.contexts}
    frame["optimizer"] = names.array.take(np.tile(np.arange(optimizers), contexts))
    frame["reference"] = reference if reference in pairs.optimizers else ""
    itself = np.tile((names == reference).to_numpy(), contexts)
    frame["best"] = _best(pairs).ravel()
    numbers = ("difference", "difference_low", "difference_high", "p_adjusted")
    if reference not in pairs.optimizers or optimizers < 2:
        nothing = dict.fromkeys(numbers, np.nan)
        told = np.where(itself, "reference", "none")
        return pd.DataFrame({**frame, "outcome": told, **nothing, "n_paired": 0, "seeds_needed": 0})
    place = pairs.optimizers.index(reference)
    rows = _rows_of(pairs, np.full(contexts, place)).ravel()
    # A pair's difference is first - second. Adding zero makes a negative zero positive.
    sign = np.tile(np.where(np.arange(optimizers) > place, -1.0, 1.0), contexts)
    difference, low, high = (sign * pairs.numbers[name][rows] + 0.0 for name in ("difference", "low", "high"))
    p_adjusted = pairs.numbers["p_adjusted"][rows]
    values = (difference, np.fmin(low, high), np.fmax(low, high), p_adjusted)
    frame |= {name: np.where(itself, np.nan, value) for name, value in zip(numbers, values, strict=True)}
    n = np.where(itself, 0, pairs.n[rows])
    family = max(1, int((pairs.n >= 2).sum()))
    needed = seeds_needed(np.nan_to_num(pairs.std[rows], nan=np.inf), RESOLUTION, ALPHA / family)
    shown = frame["p_adjusted"] <= ALPHA
    frame["outcome"] = np.select(
        [itself, n == 0, n == 1, shown & (frame["difference"] > 0), shown, needed <= n],
        ["reference", "none", "single", "better", "worse", "same"],
        "few",
    )
    return pd.DataFrame({**frame, "n_paired": n, "seeds_needed": np.where(itself, 0, needed)})


def verdict(row: Mapping[Any, Any]) -> str:
    """A row of `verdicts` in words: "better than adam by 14.9 ± 3.1 points (n = 5, p = 0.004)"."""
    outcome, reference, n = row["outcome"], row["reference"], row["n_paired"]
    if outcome in ("better", "worse"):
        difference = f"{abs(100 * row['difference']):.1f} ± {half_width(row):.1f} points"
        return f"{outcome} than {reference} by {difference} (n = {n}, {p_value(row['p_adjusted'])})"
    if outcome == "same":
        return f"no difference shown ({100 * row['difference']:+.1f} ± {half_width(row):.1f} points, n = {n})"
    if outcome == "few":
        needed = row["seeds_needed"]
        more = f"{needed - n}" if needed <= MOST_SEEDS else f"over {MOST_SEEDS - n}"
        return f"not enough seeds: {more} more would resolve {100 * RESOLUTION:g} points"
    return {"reference": "reference", "single": "one seed: no verdict"}.get(outcome, "")


def rows_of(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows as dictionaries; takes a fifth of the time that ``to_dict`` takes."""
    names = [str(name) for name in frame]
    return (dict(zip(names, row, strict=True)) for row in zip(*(frame[name].tolist() for name in names), strict=True))


def half_width(row: Mapping[Any, Any]) -> float:
    """Half the interval of a difference, in points."""
    return 50 * float(row["difference_high"] - row["difference_low"])


def p_value(p: float) -> str:
    """``p = 0.004``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def _rows_of(pairs: Pairs, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the table for every optimizer against one optimizer in each context: shape (contexts, optimizers)."""
    number = len(pairs.optimizers) * (len(pairs.optimizers) - 1) // 2
    return pairs.row[places] + number * np.arange(len(pairs.contexts))[:, None]


def _best(pairs: Pairs) -> NDArray[np.bool_]:
    """The highest means, and all that are shown to be worse than no other: shape (contexts, optimizers)."""
    measured = ~np.isnan(pairs.means)
    contexts, optimizers = pairs.means.shape
    first, second = np.triu_indices(optimizers, 1)
    shape = (contexts, len(first))
    shown = (pairs.numbers["p_adjusted"] <= ALPHA).reshape(shape)
    higher = (pairs.numbers["difference"] > 0).reshape(shape)
    worse = np.zeros((contexts, optimizers), dtype=bool)
    for pair, (a, b) in enumerate(zip(first, second, strict=True)):
        worse[:, b] |= shown[:, pair] & higher[:, pair]
        worse[:, a] |= shown[:, pair] & ~higher[:, pair]
    highest = np.where(measured, pairs.means, -np.inf).max(1, keepdims=True, initial=-np.inf) == pairs.means
    tested = (pairs.n >= 2).reshape(shape).any(1, keepdims=True)
    return np.asarray(measured & tested & (highest | ~worse), dtype=bool)


def curves(cells: pd.DataFrame) -> pd.DataFrame:
    """Summaries of whole retention curves, a row per data set, model, pruner and optimizer.

    A curve starts at the dense network (retention 1 at ratio 0, or at an achieved budget of 1x) and is linear between
    ratios. Only seeds with every ratio count.

    Returns:
        `CURVE`, ``optimizer``, ``n``, ``largest_ratio`` that was tested, ``area`` (mean over seeds of the mean
        retention from ratio 0 to the largest), ``area_std``, ``area_low``, ``area_high``, and ``keeps_99``,
        ``keeps_95``, ``keeps_90``: the largest ratio at which the mean curve keeps that part of the dense accuracy,
        infinite if that lies beyond the tested range.
    """
    keeps = [f"keeps_{round(100 * level)}" for level in KEEPS]
    numbers = ["n", "largest_ratio", "area", "area_std", "area_low", "area_high", *keeps]
    if "retention" not in cells or cells.empty:
        return pd.DataFrame(columns=[*CURVE, "optimizer", *numbers])
    curve, table = _numbered(cells, [*CURVE, "optimizer"])
    retention = cells["retention"].where(cells["status"] == "done")
    seed, ratio, kept = (column.to_numpy(dtype=float) for column in (cells["seed"], cells["ratio"], retention))
    start = np.where(table["of"].isin(list(IS_BUDGET)), 1.0, 0.0)
    found = np.full((len(numbers), len(table)), np.nan)
    found[0] = 0
    for curves, x, y in _alike(curve, seed, ratio, kept, start):
        found[1, curves] = x[-1]
        if y.shape[1]:
            area = summarize(area_under_curve(x, y.reshape(-1, len(x))).reshape(y.shape[:2]))
            found[0, curves] = y.shape[1]
            found[2:6, curves] = area.mean, area.std, area.low, area.high
            found[6:, curves] = [largest_keeping(x, y.mean(1), level) for level in KEEPS]
    table[numbers] = found.T
    return table[table["largest_ratio"].notna()].astype({"n": int}).reset_index(drop=True)


def _alike(
    curve: NDArray[np.int64], seed: Floats, ratio: Floats, retention: Floats, start: Floats
) -> Iterator[tuple[NDArray[np.intp], Floats, Floats]]:
    """Gather the curves that have the same ratios and the same number of complete seeds.

    Args:
        curve: number of each cell's curve.
        seed, ratio, retention: of each cell; retention is NaN where nothing is measured.
        start: the ratio of the dense network, of each curve.

    Yields:
        Numbers of curves, their ratios from the dense network's on, and retention, shape (curves, seeds, ratios).
        Curves of the dense network alone are left out.
    """
    by_curve = pd.DataFrame({"seed": seed, "ratio": ratio}).groupby(curve)
    of_seed, of_ratio = by_curve.rank(method="dense").to_numpy(dtype=int).T - 1
    sizes = by_curve.nunique().to_numpy()
    for size in np.unique(sizes, axis=0):
        curves = np.flatnonzero((sizes == size).all(1))
        place = np.full(len(sizes), -1)
        place[curves] = np.arange(len(curves))
        cells = np.flatnonzero(place[curve] >= 0)
        at = place[curve[cells]]
        x, y = np.empty((len(curves), size[1])), np.full((len(curves), *size), np.nan)
        x[at, of_ratio[cells]] = ratio[cells]
        y[at, of_seed[cells], of_ratio[cells]] = retention[cells]
        complete = np.asarray(~np.isnan(y).any(2))
        kinds, kind = np.unique(np.column_stack([complete.sum(1), start[curves], x]), axis=0, return_inverse=True)
        for number, (_, dense, *grid) in enumerate(kinds):
            here = np.flatnonzero(kind.ravel() == number)
            values = y[here][complete[here]].reshape(len(here), -1, size[1])
            if grid[0] > dense:
                grid = [dense, *grid]
                values = np.concatenate([np.ones((*values.shape[:2], 1)), values], axis=2)
            if len(grid) > 1:
                yield curves[here], np.array(grid), values


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of optimizers over blocks (data set, model, pruner), by the area under the retention curve.

    Attributes:
        table: ``optimizer`` and ``rank``, best first.
        blocks: how many there are.
        critical_difference: of two mean ranks (Nemenyi), NaN with fewer than two blocks.
        p: of Friedman's test.
        left_out: optimizers that lack a block.
    """

    table: pd.DataFrame
    blocks: int
    critical_difference: float
    p: float
    left_out: tuple[str, ...] = ()


def ranks(summaries: pd.DataFrame) -> Ranks:
    """Rank the optimizers of `curves`."""
    known = summaries[summaries["area"].notna()]
    areas = known.pivot_table(index=CURVE, columns="optimizer", values="area", sort=False)
    complete = areas.dropna(axis=1)
    left_out = tuple(str(name) for name in summaries["optimizer"].unique() if name not in complete.columns)
    if complete.empty:
        return Ranks(pd.DataFrame(columns=["optimizer", "rank"]), 0, np.nan, np.nan, left_out)
    ranking = rank_treatments(complete.to_numpy())
    table = pd.DataFrame({"optimizer": complete.columns.astype(object), "rank": ranking.ranks})
    table = table.sort_values("rank", kind="stable").reset_index(drop=True)
    return Ranks(table, len(complete), ranking.critical_difference, ranking.p, left_out)


def at_budget(cells: pd.DataFrame, by: str) -> pd.DataFrame:
    """The cells as if every network had been pruned to equal achieved budgets.

    Along each trial's curve over the ratios of a pruner, which starts at the dense network, every number is
    interpolated linearly in the logarithm of what was achieved, at 1.25x, 1.5x, 2x, 2.5x, 3x, 4x, ... as far as the
    curves of all optimizers and seeds reach.

    Args:
        cells: as in `Tables`.
        by: ``compression`` (parameters / non-zero parameters) or ``macs`` (multiply-adds / those on non-zero
            weights).

    Returns:
        Cells with ``ratio`` the budget and ``of`` ``compression`` or ``theoretical speedup``; a trial with a cell
        that is not done has that cell's status at every budget. What is not known of the dense network is NaN below
        the first cell.
    """
    if cells.empty:
        return cells
    achieved = BUDGETS[by]
    rows: list[dict[str, Any]] = []
    for _, of_pruner in cells.groupby(["dataset", "model", "pruner", "of"], sort=False):
        known = of_pruner[(of_pruner["status"] == "done") & of_pruner.get(achieved, pd.Series(dtype=float)).notna()]
        if known.empty:
            continue
        reach = known.groupby(["optimizer", "seed"])[achieved].max().min()
        levels = np.array([level for level in LEVELS if level <= reach * (1 + 1e-9)])
        for _, trial in of_pruner.groupby(["optimizer", "seed"], sort=False):
            rows.extend(_trial_at_levels(trial, achieved, levels, by))
    return pd.DataFrame(rows, columns=list(cells.columns))


def _trial_at_levels(trial: pd.DataFrame, achieved: str, levels: Floats, by: str) -> list[dict[str, Any]]:
    first = trial.iloc[0].to_dict()
    identity = {name: first[name] for name in ("dataset", "model", "optimizer", "seed", "pruner", "group", "device")}
    identity |= {
        "of": BUDGET_UNITS[by],
        "dense_top1": first["dense_top1"],
        "dense_loss": first["dense_loss"],
        "key": "",
    }
    lacking = trial[(trial["status"] != "done") | trial[achieved].isna()]
    if len(lacking):
        status = next((s for s in lacking["status"] if s != "done"), "missing")
        return [{**identity, "ratio": float(level), "status": status} for level in levels]
    ordered = trial.sort_values(achieved).drop_duplicates(achieved)
    x = np.log(np.maximum(ordered[achieved].to_numpy(dtype=float), 1.0))
    numbers: dict[str, Floats] = {}
    for name in ordered.columns:
        if name == achieved:
            numbers[name] = levels
        if (
            name == achieved
            or name in identity
            or not pd.api.types.is_numeric_dtype(ordered[name])
            or name in ("ratio", "seed", "threads")
        ):
            continue
        y = ordered[name].to_numpy(dtype=float)
        known = ~np.isnan(y)
        start = _of_dense(name, first)
        if start is not None:
            numbers[name] = np.interp(np.log(levels), np.r_[0.0, x[known]], np.r_[start, y[known]])
        elif known.any():  # unknown of the dense network, and so below the first cell
            numbers[name] = np.interp(np.log(levels), x[known], y[known], left=np.nan)
    for remaining, ratio in (("nonzero_params", "compression_ratio"), ("nonzero_macs", "theoretical_speedup")):
        if remaining in ordered and ratio in numbers:
            of_dense = (ordered[remaining] * ordered[ratio]).mean()  # what the ratio is of: the same in every cell
            numbers[remaining] = of_dense / numbers[ratio]
    return [
        {**identity, "ratio": float(level), "status": "done", **{name: float(y[i]) for name, y in numbers.items()}}
        for i, level in enumerate(levels)
    ]


def _of_dense(name: str, cell: dict[Any, Any]) -> float | None:
    """What a number of a cell is at the start of its curve, where that is known without a measurement."""
    dense = {"pruned_top1": "dense_top1", "pruned_loss": "dense_loss", "images_per_s": "dense_images_per_s"}
    if name in dense:
        value = cell.get(dense[name])
        return None if value is None or pd.isna(value) else float(value)
    if name in ("retention", "compression_ratio", "theoretical_speedup", "measured_speedup", "latency_speedup"):
        return 1.0
    return 0.0 if name == "sparsity" else None
