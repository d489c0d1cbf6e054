"""Cells to comparisons: pairs of optimizers, verdicts, curves over ratios, ranks, equal budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    """All pairs of optimizers of one data set and model: one family of comparisons.

    Attributes:
        table: a row per context (pruner and ratio) and pair, `PAIR_COLUMNS`; ``difference`` is first - second in the
            metric's unit, over the ``n`` seeds that both have; numbers are NaN with fewer than two.
        contexts: what the first axis of the arrays stands for, a row each.
        optimizers: what the second axis stands for.
        means: of the metric, shape (contexts, optimizers); NaN where nothing is measured.
        row: of the table, by the optimizers' numbers, shape (optimizers, optimizers); add the number of the
            context times the number of pairs.
        std: standard deviation of the differences, a value per row of the table.
    """

    table: pd.DataFrame
    contexts: pd.DataFrame
    optimizers: list[str]
    means: Floats
    row: NDArray[np.int64]
    std: Floats


def compare(measured: pd.DataFrame, metric: str, context: Sequence[str] = CONTEXT) -> Iterator[Pairs]:
    """Compare every pair of optimizers at every pruning, paired by seed, a family per data set and model.

    Args:
        measured: rows with the context's columns, ``optimizer``, ``seed`` and the metric.
        metric: name of the column to compare.
        context: columns within which optimizers are compared, data set and model first.
    """
    for _, part in measured.groupby(["dataset", "model"], sort=False):
        yield _compare_family(part, metric, list(context))


def _compare_family(part: pd.DataFrame, metric: str, context: list[str]) -> Pairs:
    where, contexts = _numbered(part, context)
    which, optimizers = pd.factorize(part["optimizer"])
    seed, seeds = pd.factorize(part["seed"])
    values = np.full((len(contexts), len(optimizers), len(seeds)), np.nan)
    values[where, which, seed] = part[metric].to_numpy(dtype=float)
    first, second = np.triu_indices(len(optimizers), 1)
    a, b = (values[:, side].reshape(-1, len(seeds)) for side in (first, second))
    numbers, n, std, test = _differences(a, b)
    table = contexts.loc[np.repeat(np.arange(len(contexts)), len(first))].reset_index(drop=True)
    table["metric"] = metric
    table["first"] = np.tile(np.asarray(optimizers, dtype=object)[first], len(contexts))
    table["second"] = np.tile(np.asarray(optimizers, dtype=object)[second], len(contexts))
    table["n"] = n
    for name, column in zip(PAIR_NUMBERS, numbers, strict=True):
        table[name] = column
    table["test"] = test
    row = np.zeros((len(optimizers), len(optimizers)), dtype=np.int64)
    row[first, second] = row[second, first] = np.arange(len(first))
    with np.errstate(invalid="ignore"):
        counts = np.sum(~np.isnan(values), axis=2)
        means = np.nansum(values, axis=2) / np.where(counts, counts, np.nan)
    return Pairs(table, contexts, list(optimizers), means, row, std)


def _numbered(part: pd.DataFrame, columns: list[str]) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """The number of each row's combination of values, and the combinations in order of appearance."""
    numbers = part.groupby(columns, sort=False).ngroup().to_numpy()
    return np.asarray(numbers, dtype=np.int64), part[columns].drop_duplicates().reset_index(drop=True)


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


def verdicts(pairs: Pairs, reference: str) -> pd.DataFrame:
    """What can be said of each optimizer at each pruning, against the reference and against the best.

    Returns:
        A row per context and optimizer: the context, ``optimizer``, `VERDICT_COLUMNS`, ``n_paired`` and
        ``seeds_needed``. ``difference`` is optimizer - reference. ``outcome`` is ``reference``, ``better``, ``worse``,
        ``same`` (no difference shown, with enough seeds to find one of two points), ``few`` (not enough seeds for
        that), ``single`` (one common seed) or ``none`` (no common seed). ``best``: the
        highest mean, and what is shown to be worse than no other; False everywhere if fewer than two seeds are common.
    """
    contexts, optimizers = len(pairs.contexts), len(pairs.optimizers)
    frame = pairs.contexts.loc[np.repeat(np.arange(contexts), optimizers)].reset_index(drop=True)
    frame["optimizer"] = np.tile(np.asarray(pairs.optimizers, dtype=object), contexts)
    frame["reference"] = reference if reference in pairs.optimizers else ""
    frame["best"] = _best(pairs).ravel()
    if reference not in pairs.optimizers or optimizers < 2:
        frame["outcome"] = np.where(frame["optimizer"] == reference, "reference", "none")
        for name in ("difference", "difference_low", "difference_high", "p_adjusted"):
            frame[name] = np.nan
        return frame.assign(n_paired=0, seeds_needed=0)
    place = pairs.optimizers.index(reference)
    rows = _rows_of(pairs, np.full(contexts, place)).ravel()
    of_pair = pairs.table.loc[rows]
    sign = np.where(of_pair["first"].to_numpy() == reference, -1.0, 1.0)
    # Adding zero makes a negative zero positive.
    itself = (frame["optimizer"] == reference).to_numpy()
    low, high = (sign * of_pair[name].to_numpy(dtype=float) + 0.0 for name in ("low", "high"))
    frame["difference"] = np.where(itself, np.nan, sign * of_pair["difference"].to_numpy(dtype=float) + 0.0)
    frame["difference_low"] = np.where(itself, np.nan, np.fmin(low, high))
    frame["difference_high"] = np.where(itself, np.nan, np.fmax(low, high))
    frame["p_adjusted"] = np.where(itself, np.nan, of_pair["p_adjusted"].to_numpy(dtype=float))
    n = np.where(itself, 0, of_pair["n"].to_numpy())
    family = max(1, int((pairs.table["n"] >= 2).sum()))
    needed = seeds_needed(np.nan_to_num(pairs.std[rows], nan=np.inf), RESOLUTION, ALPHA / family)
    shown = frame["p_adjusted"].to_numpy() <= ALPHA
    frame["outcome"] = np.select(
        [itself, n == 0, n == 1, shown & (frame["difference"].to_numpy() > 0), shown, needed <= n],
        ["reference", "none", "single", "better", "worse", "same"],
        "few",
    )
    return frame.assign(n_paired=n, seeds_needed=np.where(itself, 0, needed))


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
    shown = (pairs.table["p_adjusted"].to_numpy(dtype=float) <= ALPHA).reshape(shape)
    higher = (pairs.table["difference"].to_numpy(dtype=float) > 0).reshape(shape)
    worse = np.zeros((contexts, optimizers), dtype=bool)
    for pair, (a, b) in enumerate(zip(first, second, strict=True)):
        worse[:, b] |= shown[:, pair] & higher[:, pair]
        worse[:, a] |= shown[:, pair] & ~higher[:, pair]
    highest = np.where(measured, pairs.means, -np.inf).max(1, keepdims=True, initial=-np.inf) == pairs.means
    tested = (pairs.table["n"].to_numpy() >= 2).reshape(shape).any(1, keepdims=True)
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
    names = [*CURVE, "optimizer", "n", "largest_ratio", "area", "area_std", "area_low", "area_high", *keeps]
    rows = []
    if "retention" in cells and len(cells):
        starts = {of: 1.0 if of in IS_BUDGET else 0.0 for of in cells["of"].unique()}
        done = (cells["status"] == "done").to_numpy()
        columns = (cells["ratio"], cells["seed"], cells["retention"].where(done))
        ratio, seed, retention = (column.to_numpy(dtype=float) for column in columns)
        groups: dict[Any, Any] = dict(cells.groupby([*CURVE, "optimizer"], sort=False).indices)
        for key, part in groups.items():
            x, y = _curve(ratio[part], seed[part], retention[part], starts[key[3]])
            if len(x) < 2:
                continue
            if not len(y):
                rows.append([*key, 0, x[-1], *[np.nan] * (len(names) - 7)])
                continue
            area = summarize(area_under_curve(x, y)[None])
            kept = [largest_keeping(x, y.mean(0)[None], level)[0] for level in KEEPS]
            limits = (area.mean[0], area.std[0], area.low[0], area.high[0])
            rows.append([*key, len(y), x[-1], *limits, *kept])
    return pd.DataFrame(rows, columns=names)


def _curve(ratio: Floats, seed: Floats, retention: Floats, start: float) -> tuple[Floats, Floats]:
    """Ratios from the dense network's on, and the retention of every complete seed: shape (seeds, ratios)."""
    ratios, place = np.unique(ratio, return_inverse=True)
    seeds, of_seed = np.unique(seed, return_inverse=True)
    y = np.full((len(seeds), len(ratios)), np.nan)
    y[of_seed, place] = retention
    y = y[~np.isnan(y).any(1)]
    if ratios[0] > start:
        ratios = np.concatenate([[start], ratios])
        y = np.concatenate([np.ones((len(y), 1)), y], axis=1)
    return ratios, y


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
