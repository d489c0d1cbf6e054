"""Records to tables: every trial, every cell, and the leaderboard that ranks optimizers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sgabench.errors import InputError, suggestion
from sgabench.store.store import Store
from sgabench.suite.plan import Plan

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from sgabench.evidence.comparison import Pairs
    from sgabench.evidence.curves import Ranks
    from sgabench.evidence.statistics import Floats

GROUP = ["dataset", "model", "pruner", "of", "ratio", "optimizer"]
WITH_SPREAD = ("dense_top1", "pruned_top1", "retention")
MEANS = (
    "sparsity",
    "compression_ratio",
    "theoretical_speedup",
    "measured_speedup",
    "latency_speedup",
    "params",
    "nonzero_params",
    "macs",
    "nonzero_macs",
    "bytes",
    "gzip_bytes",
    "images_per_s",
    "latency_s",
)
SPREAD = ("mean", "std", "low", "high")
NO_VERDICT: dict[str, Any] = {
    "reference": "",
    "difference": math.nan,
    "difference_low": math.nan,
    "difference_high": math.nan,
    "n_paired": 0,
    "p_adjusted": math.nan,
    "outcome": "none",
    "seeds_needed": 0,
    "best": False,
    "verdict": "",
}


@dataclass(frozen=True)
class Tables:
    """What is known of a suite, or of a whole store.

    Attributes:
        leaderboard: a row per (data set, model, pruner, ratio, optimizer): number of seeds, means,
            standard deviations (of a sample: n - 1) and 95 % intervals, the comparison with the reference
            optimizer (`sgabench.evidence.comparison.verdicts`), best pruned top-1 first.
        cells: a row per cell, its trial's dense accuracy beside it.
        trials: a row per trial; ``at_chance``: no better than guessing.
        failures: a row per trial, cell or probe that failed or diverged, with the error.
        environments: the different environments that the records were made in.
        reference: the optimizer that the others are compared with.
    """

    leaderboard: pd.DataFrame
    cells: pd.DataFrame
    trials: pd.DataFrame
    failures: pd.DataFrame
    environments: tuple[Mapping[str, Any], ...]
    reference: str = ""

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Every pair of optimizers, by pruned top-1 and by retention at every pruning, and by dense top-1."""
        import pandas as pd

        from sgabench.evidence.comparison import PAIR_COLUMNS, compare

        families = [pairs.table for metric in ("pruned_top1", "retention") for pairs in _compare(self.cells, metric)]
        if "top1" in self.trials:
            dense = self.trials[self.trials["status"] == "done"].rename(columns={"top1": "dense_top1"})
            context = ["dataset", "model"]
            families += [
                pairs.table.assign(pruner="", of="", ratio=0.0) for pairs in compare(dense, "dense_top1", context)
            ]
        if not families:
            return pd.DataFrame(columns=PAIR_COLUMNS)
        return pd.concat(families, ignore_index=True)[PAIR_COLUMNS]

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Summaries of the retention curves: `sgabench.evidence.comparison.curves`."""
        from sgabench.evidence.curves import curves

        return curves(self.cells)

    @cached_property
    def ranks(self) -> Ranks:
        """Mean ranks of the optimizers over data sets, models and pruners."""
        from sgabench.evidence.curves import ranks

        return ranks(self.curves)


def make_tables(store: Store, plan: Plan | None = None, *, reference: str | None = None, by: str = "ratio") -> Tables:
    """Read the tables from a store.

    Args:
        store: the records.
        plan: only its trials and cells, in its order and with its labels, and with a row for what is
            not stored yet; None: all that is stored.
        reference: label of the optimizer that the others are compared with; default: the first of the
            plan, or ``adam``, or the first there is.
        by: ``ratio``: a row per ratio asked for; ``compression`` or ``macs``: per achieved budget,
            interpolated (`sgabench.evidence.comparison.at_budget`).

    Raises:
        InputError: the reference is not among the optimizers.
    """
    from sgabench.evidence.frames import of_everything, of_plan

    frames = of_everything(store) if plan is None else of_plan(store, plan)
    frame = frames.cells
    if by != "ratio":
        from sgabench.evidence.budgets import at_budget

        frame = at_budget(frame, by)
    chosen = _reference(frame, plan, reference)
    return Tables(
        _leaderboard(frame, chosen),
        frame.drop(columns=["group", "pruner_key"], errors="ignore"),
        frames.trials.drop(columns="group", errors="ignore"),
        frames.failures,
        frames.environments,
        chosen,
    )


def _reference(cells: pd.DataFrame, plan: Plan | None, asked: str | None) -> str:
    labels = [] if cells.empty else list(cells["optimizer"].unique())
    if asked is not None and asked not in labels:
        raise InputError(f"--reference {asked}: no optimizer of that label{suggestion(asked, labels)}")
    if asked is not None or plan is not None:
        preferred = [asked] if asked else [choice.label for choice in plan.suite.optimizers] if plan else []
        return next((label for label in [*preferred, *labels] if label in labels), "")
    counts: Counter[str] = Counter(cells["optimizer"][cells["status"] == "done"] if labels else ())
    # Of several that are called Adam, the one with the most results says the most.
    return max(labels, key=lambda label: (label.split(" [")[0] == "adam", counts[label]), default="")


def _compare(cells: pd.DataFrame, metric: str) -> list[Pairs]:
    from sgabench.evidence.comparison import compare

    if metric not in cells:
        return []
    return list(compare(cells[(cells["status"] == "done") & cells[metric].notna()], metric))


def each_cell(tables: Tables) -> Tables:
    """The same tables with a row per cell where the leaderboard had one per group of seeds."""
    cells = tables.cells
    if cells.empty:
        return tables
    done = cells["status"] == "done"
    board = cells[GROUP].assign(
        optimizer=cells["optimizer"] + " seed " + cells["seed"].astype(str),
        n=done.astype(int),
        incomplete=cells["status"].where(~done, ""),
        **{f"{name}_mean": cells.get(name) for name in WITH_SPREAD},
        **{f"{name}_{number}": float("nan") for name in WITH_SPREAD for number in SPREAD[1:]},
        **{name: cells.get(name, float("nan")) for name in MEANS},
        **NO_VERDICT,
    )
    return replace(tables, leaderboard=board)


def _leaderboard(cells: pd.DataFrame, reference: str) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    spread = [f"{name}_{number}" for name in WITH_SPREAD for number in SPREAD]
    columns = [*GROUP, "n", "incomplete", *spread, *MEANS, *NO_VERDICT]
    if cells.empty:
        return pd.DataFrame(columns=columns)
    nothing = pd.Series(float("nan"), index=cells.index)
    numbers = {name: pd.to_numeric(cells.get(name, nothing)) for name in (*WITH_SPREAD, *MEANS)}
    # To group by texts takes ten times as long as to group by their numbers, in order of appearance.
    labels = {name: pd.factorize(cells[name]) for name in GROUP if name != "ratio"}
    cells = cells[["ratio", "seed", "status"]].assign(**{name: codes for name, (codes, _) in labels.items()}, **numbers)
    board = cells[GROUP].drop_duplicates(ignore_index=True)
    row = cells.groupby(GROUP, sort=False).ngroup().to_numpy()
    is_done = (cells["status"] == "done").to_numpy()
    done, of_done = cells[is_done], row[is_done]
    board["n"] = np.bincount(of_done, minlength=len(board))
    board["incomplete"] = _incomplete(row[~is_done], cells[~is_done], len(board))
    for name in WITH_SPREAD:
        values = _spread(done[name].to_numpy(dtype=float), of_done, len(board))
        board[[f"{name}_{number}" for number in SPREAD]] = values.T
    board[list(MEANS)] = done[list(MEANS)].groupby(of_done).mean().reindex(board.index)
    board = board.merge(_verdicts(done, labels["optimizer"][1], reference), on=GROUP, how="left")
    board = board.fillna({name: empty for name, empty in NO_VERDICT.items() if empty == empty})
    order = ["dataset", "model", "pruner", "ratio", "pruned_top1_mean"]
    board = board.sort_values(
        order, ascending=[True] * 4 + [False], kind="stable", na_position="last", ignore_index=True
    )
    board = board.assign(**{name: texts.take(board[name].to_numpy()) for name, (_, texts) in labels.items()})
    return board[columns].astype({"best": bool, "n_paired": int, "seeds_needed": int})


def _spread(values: Floats, row: NDArray[Any], rows: int) -> Floats:
    """Mean, standard deviation and interval of the known values of each row: shape (4, rows)."""
    import numpy as np

    from sgabench.evidence.statistics import summarize

    known = ~np.isnan(values)
    values, row = values[known], row[known]
    values = values[np.argsort(row, kind="stable")]
    sizes = np.bincount(row, minlength=rows)
    starts = np.cumsum(sizes) - sizes
    numbers = np.full((len(SPREAD), rows), np.nan)
    for n in np.unique(sizes[sizes > 0]):
        places = np.flatnonzero(sizes == n)
        summary = summarize(values[starts[places][:, None] + np.arange(n)])
        numbers[:, places] = summary.mean, summary.std, summary.low, summary.high
    return numbers


def _verdicts(done: pd.DataFrame, optimizers: Any, reference: str) -> pd.DataFrame:
    """What there is of `NO_VERDICT` for each row; optimizers are numbers."""
    import pandas as pd

    from sgabench.evidence.comparison import rows_of, verdict, verdicts

    number = {label: number for number, label in enumerate(optimizers)}.get(reference, -1)
    parts = [verdicts(pairs, number) for pairs in _compare(done, "pruned_top1")]
    if not parts:
        return pd.DataFrame(columns=[*GROUP, *NO_VERDICT])
    board = pd.concat(parts, ignore_index=True)
    board["reference"] = [reference if name == number else "" for name in board["reference"]]
    board["verdict"] = [verdict(row) for row in rows_of(board)]
    return board


def _incomplete(row: NDArray[Any], lacking: pd.DataFrame, rows: int) -> list[str]:
    """Which seeds each row lacks and why: ``diverged 1, 3; missing 2``."""
    seeds: list[dict[str, list[str]]] = [{} for _ in range(rows)]
    for place, status, seed in zip(row, lacking["status"], lacking["seed"], strict=True):
        seeds[place].setdefault(status, []).append(str(seed))
    return ["; ".join(f"{status} {', '.join(of_status)}" for status, of_status in each.items()) for each in seeds]
