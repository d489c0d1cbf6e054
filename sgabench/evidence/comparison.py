"""Cells to comparisons: pairs of optimizers, and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sgabench.evidence.statistics import (
    ALPHA,
    MOST_SEEDS,
    Floats,
    holm,
    paired_difference,
    seeds_needed,
)

CONTEXT = ["dataset", "model", "pruner", "of", "ratio"]
RESOLUTION = 0.02  # the difference, in fractions, that seeds should resolve: two points
PAIR_NUMBERS = ("difference", "low", "high", "p", "p_adjusted", "effect_size")
PAIR_COLUMNS = [*CONTEXT, "metric", "first", "second", "n", *PAIR_NUMBERS, "test"]
VERDICT_COLUMNS = ["reference", "difference", "difference_low", "difference_high", "p_adjusted", "outcome", "best"]


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
    family, _ = numbered(measured, ["dataset", "model"])
    where, contexts = numbered(measured, list(context))
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


def numbered(frame: pd.DataFrame, columns: list[str]) -> tuple[NDArray[np.int64], pd.DataFrame]:
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
