"""From records to tables: every trial, every cell, and the leaderboard that ranks optimizers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sgabench.errors import InputError, suggestion
from sgabench.evidence.verdicts import GROUP, NO_VERDICT, notes_on, with_verdicts
from sgabench.store.store import Store
from sgabench.suite.plan import Plan

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from sgabench.evidence.comparison import Pairs, Question
    from sgabench.evidence.intervals import Floats, Summary
    from sgabench.evidence.looks import Looks
    from sgabench.evidence.ranks import Profiles, Ranks

WITH_SPREAD = ("dense_top1", "pruned_top1", "retention", "retention_above_chance")
MEANS = (
    "dense_top5",
    "pruned_top5",
    "sparsity",
    "compression_ratio",
    "theoretical_speedup",
    "params",
    "nonzero_params",
    "macs",
    "nonzero_macs",
    "bytes",
    "gzip_bytes",
    "train_passes",
    "train_seconds",
)
SPEEDS = ("measured_speedup", "latency_speedup", "images_per_s", "latency_s")  # medians: one slow run must not count
PATTERN_ONLY = "pattern only"
SPREAD = ("mean", "std", "low", "high")
OF_SEVERAL_SEEDS = (  # columns that the row of a single cell lacks
    *(f"{name}_{number}" for name in WITH_SPREAD for number in SPREAD[1:]),
    *("trained_low", "trained_high", "missed_target"),
    *NO_VERDICT,
)


@dataclass(frozen=True)
class Tables:
    """The results of a suite, or of a whole store.

    Attributes:
        leaderboard: a row per (data set, model, pruner, ratio, optimizer): seeds that count, how many of them trained,
            means, standard deviations (of a sample: n - 1) and 95 % intervals, the comparison with the reference
            optimizer (`sgabench.evidence.comparison.compare`), best pruned top-1 first.
        curves: a row per (data set, model, pruner, optimizer): the mean over the ratios, how much of the dense
            accuracy is kept, and the comparison with the reference.
        comparisons: every comparison that was made, of curves, single prunings and dense networks.
        cells: a row per cell, with its trial's dense accuracy.
        trials: a row per trial; ``at_chance``: no better than guessing.
        failures: a row per trial, cell or probe that failed or diverged, with the error.
        environments: the different environments that the records were made in; the column ``environment`` of trials
            and cells numbers them.
        question: what was asked.
        notes: what a reader of the verdicts must know beside them.
        warnings: what a reader must know before the numbers: how rows were made differently, and what is left out.
        probes: a row per number that a probe found and network that it looked at, over seeds.
        ranked: the data sets and models that ranks and profiles are made of; None: all.
        arm: what is compared, in a word: ``optimizer``; ``checkpoint`` if all are checkpoints, ``training`` if some.
    """

    leaderboard: pd.DataFrame
    curves: pd.DataFrame
    comparisons: pd.DataFrame
    cells: pd.DataFrame
    trials: pd.DataFrame
    failures: pd.DataFrame
    environments: tuple[Mapping[str, Any], ...]
    question: Question
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    probes: pd.DataFrame | None = None
    ranked: frozenset[tuple[str, str]] | None = None
    arm: str = "optimizer"

    @property
    def reference(self) -> str:
        """The optimizer that the others are compared with."""
        return self.question.reference

    @cached_property
    def ranks(self) -> Ranks:
        """Mean ranks of the optimizers over data sets and models."""
        from sgabench.evidence.ranks import ranks

        return ranks(self._ranked(self.curves))

    @cached_property
    def profiles(self) -> Profiles | None:
        """Performance profiles over data sets and models; None with fewer than two of these."""
        from sgabench.evidence.ranks import profiles

        return profiles(self._ranked(self.cells))

    def _ranked(self, rows: pd.DataFrame) -> pd.DataFrame:
        if self.ranked is None or rows.empty:
            return rows
        return rows[[place in self.ranked for place in zip(rows["dataset"], rows["model"], strict=True)]]


def make_tables(
    store: Store,
    plan: Plan | None = None,
    *,
    reference: str | None = None,
    by: str = "ratio",
    pairs: Pairs = "reference",
    looks: Looks | None = None,
) -> Tables:
    """Read the tables from a store.

    Args:
        store: the records.
        plan: only its trials and cells, in its order and with its labels, with rows for what is not stored yet;
            None: all that is stored.
        reference: label of the optimizer that the others are compared with; default: that of the suite's question, or
            the first of the plan, or ``adam``, or the first there is.
        by: ``ratio``: a row per ratio asked for; ``compression`` or ``macs``: per achieved budget,
            interpolated (`sgabench.evidence.budgets.at_budget`); ``passes`` or ``train-seconds``: per ratio, at equal
            costs of training (`sgabench.evidence.costs.at_cost`).
        pairs: compare each optimizer with the reference, or all pairs.
        looks: at a plan that is restricted to the coming one already; default: what is kept beside the leaderboard,
            and the plan as of the last of them.

    Raises:
        InputError: the reference is not among the optimizers.
    """
    from sgabench.evidence.budgets import BUDGETS, at_budget
    from sgabench.evidence.comparison import Question, compare
    from sgabench.evidence.costs import at_cost
    from sgabench.evidence.cubes import cubes
    from sgabench.evidence.curves import curves
    from sgabench.evidence.frames import of_everything, of_plan
    from sgabench.evidence.looks import looks_of, notes, with_decided
    from sgabench.evidence.mixing import mixed_rows
    from sgabench.evidence.revisions import earlier_records

    if plan and looks is None:
        looks = looks_of(store.folder, plan.suite)
        plan = looks.restrict(plan, coming=not looks.taken) if looks else plan
    frames = of_everything(store) if plan is None else of_plan(store, plan)
    frame, equal = frames.cells, None
    if by in BUDGETS:
        frame = at_budget(frame, by)
    elif by != "ratio":
        equal = at_cost(frames, by)
        frame = equal.cells
    asked = plan.suite.question if plan else None
    chosen = _reference(frame, plan, reference, equal.names if equal else {})
    question = Question(chosen, pairs=pairs, interpolated="interpolated" in frame and bool(frame["interpolated"].any()))
    if asked:
        ratios = () if asked.ratio is None or by in BUDGETS else (asked.ratio,)
        question = replace(question, pruner=asked.pruner, ratios=ratios, resolution=asked.resolution / 100)
    if looks:
        question = replace(question, share=looks.share)
    of_curves = cubes(frame)
    compared = compare(of_curves, question)
    if looks and by == "ratio" and reference is None and pairs == "reference":
        compared = with_decided(compared, looks)
    return Tables(
        _leaderboard(frame, compared, chosen, question.resolution),
        curves(of_curves, compared, chosen, question.resolution),
        compared,
        frame.drop(columns=["group", "pruner_key"], errors="ignore"),
        frames.trials.drop(columns="group", errors="ignore"),
        frames.failures,
        frames.environments,
        question,
        (*notes(looks), *notes_on(compared)),
        (
            *mixed_rows(frames.trials, frames.cells, frames.environments),
            *(earlier_records(store, plan) if plan else ()),
            *(equal.warnings if equal else ()),
        ),
        frames.probes,
        equal.blocks if equal else None,
        _arm(frames.made_of.values()),
    )


def _arm(trials: Iterable[Mapping[str, Any]]) -> str:
    """The word for what made these trials, as `Tables.arm`."""
    are_brought = {"checkpoint" in described for described in trials}
    if are_brought == {True}:
        return "checkpoint"
    return "training" if len(are_brought) == 2 else "optimizer"


def _reference(cells: pd.DataFrame, plan: Plan | None, asked: str | None, names: Mapping[str, str]) -> str:
    """The label of the reference; ``names``: labels to their names in these cells, where those differ."""
    labels = [] if cells.empty else list(cells["optimizer"].unique())
    if asked is not None and asked in names:
        if names[asked] not in labels:
            raise InputError(f"--reference {asked}: no other optimizer has trainings of the same cost")
        asked = names[asked]
    if asked is not None and asked not in labels:
        raise InputError(f"--reference {asked}: no optimizer with that label{suggestion(asked, labels)}")
    if asked is not None or plan is not None:
        preferred = [asked] if asked else []
        if not preferred and plan:  # the plan may be a part without the reference
            preferred = [names.get(arm, arm) for arm in (plan.suite.question.reference or "", *plan.suite.arms)]
        return next((label for label in [*preferred, *labels] if label in labels), "")
    counts: Counter[str] = Counter(cells["optimizer"][cells["status"] == "done"] if labels else ())
    # Of several called Adam, the one with the most results is the most useful.
    return max(labels, key=lambda label: (label.split(" (")[0] == "adam", counts[label]), default="")


def each_cell(tables: Tables) -> Tables:
    """The same tables, with a leaderboard row per cell and seed instead of one per group of seeds."""
    cells = tables.cells
    if cells.empty:
        return tables
    done = cells["status"] == "done"
    board = cells[GROUP].assign(
        optimizer=cells["optimizer"],
        seed=cells["seed"],
        n=done.astype(int),
        incomplete=cells["status"].where(~done, ""),
        **{f"{name}_mean": cells.get(name) for name in WITH_SPREAD},
        **{f"{name}_{number}": float("nan") for name in WITH_SPREAD for number in SPREAD[1:]},
        **{name: cells.get(name, float("nan")) for name in (*MEANS, *SPEEDS)},
        no_speed=_no_speed(_of_a_pattern(cells)),
        trained=cells["trained"].astype(int),
        trained_low=float("nan"),
        trained_high=float("nan"),
        missed_target=False,
        interpolated=cells.get("interpolated", False),
        **NO_VERDICT,
    )
    return replace(tables, leaderboard=board)


def _leaderboard(cells: pd.DataFrame, compared: pd.DataFrame, reference: str, resolution: float) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    spread = [f"{name}_{number}" for name in WITH_SPREAD for number in SPREAD]
    shares = ["trained", "trained_low", "trained_high"]
    columns = [
        *GROUP,
        "n",
        *shares,
        "incomplete",
        "missed_target",
        "interpolated",
        *spread,
        *MEANS,
        *SPEEDS,
        "no_speed",
        *NO_VERDICT,
    ]
    if cells.empty:
        return pd.DataFrame(columns=columns)
    # Grouping by texts takes ten times as long as grouping by their numbers, in order of appearance.
    labels = {name: pd.factorize(cells[name]) for name in GROUP if name != "ratio"}
    numbers = _numbers(cells).assign(ratio=cells["ratio"], **{name: codes for name, (codes, _) in labels.items()})
    board = numbers[GROUP].drop_duplicates(ignore_index=True)
    row = numbers.groupby(GROUP, sort=False).ngroup().to_numpy()
    counts = numbers["pruned_top1"].notna().to_numpy()
    board["n"] = np.bincount(row[counts], minlength=len(board))
    board["trained"] = np.bincount(row[counts & cells["trained"].to_numpy()], minlength=len(board))
    board[shares[1:]] = _exact_shares(board["trained"].to_numpy(), board["n"].to_numpy())
    lacking = (cells["status"] != "done").to_numpy()
    board["incomplete"] = _incomplete(row[lacking], cells[lacking], len(board))
    board["missed_target"] = np.bincount(row, numbers["missed"], minlength=len(board)) > 0
    interpolated = cells["interpolated"] if "interpolated" in cells else np.zeros(len(cells))
    board["interpolated"] = np.bincount(row, interpolated, minlength=len(board)) > 0
    images = cells["test_images"].to_numpy(dtype=float)
    for name in WITH_SPREAD:
        of_images = images if name.endswith("top1") else None
        board[[f"{name}_{number}" for number in SPREAD]] = _spread(numbers[name], row, len(board), of_images).T
    grouped = numbers[cells["status"] == "done"].groupby(row[~lacking])
    board[list(MEANS)] = grouped[list(MEANS)].mean().reindex(board.index)
    board[list(SPEEDS)] = grouped[list(SPEEDS)].median().reindex(board.index)
    board["no_speed"] = _no_speed(np.bincount(row, _of_a_pattern(cells), minlength=len(board)) > 0)
    board = board.assign(**{name: texts.take(board[name].to_numpy()) for name, (_, texts) in labels.items()})
    board = with_verdicts(board, compared[compared["ratio"].notna()], reference, resolution)
    order = ["dataset", "model", "pruner", "ratio", "pruned_top1_mean"]
    places = [pd.factorize(board[name])[0] if name in order[:3] else board[name] for name in order[:4]]
    by = pd.DataFrame(dict(zip(order, [*places, -board["pruned_top1_mean"]], strict=True)))
    board = board.loc[by.sort_values(order, kind="stable", na_position="last").index].reset_index(drop=True)
    return board[columns]


def _numbers(cells: pd.DataFrame) -> pd.DataFrame:
    """The columns that are averaged: accuracies as they count, and speeds only where something can be faster."""
    import numpy as np
    import pandas as pd

    from sgabench.evidence.cubes import missed_targets

    nothing = pd.Series(float("nan"), index=cells.index)
    found = {name: pd.to_numeric(cells.get(name, nothing)) for name in (*MEANS, *SPEEDS)}
    # Masked weights are multiplied like others: the network executes as many multiply-adds as the dense one.
    masked = found["macs"] >= found["theoretical_speedup"] * found["nonzero_macs"] * (1 - 1e-9)
    found |= {name: found[name].mask(masked & cells.get("sparse_layers", nothing).isna()) for name in SPEEDS}
    pruned, dense, chance = (pd.to_numeric(cells[name]) for name in ("counted_top1", "counted_dense", "chance"))
    found |= {"pruned_top1": pruned, "dense_top1": dense, "missed": pd.Series(missed_targets(cells), cells.index)}
    # A network that learned nothing has nothing to keep.
    untrained = pruned.notna() & ~cells["trained"].astype(bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        found["retention"] = (pruned / dense).mask(untrained, 0.0)
        found["retention_above_chance"] = ((pruned - chance) / (dense - chance)).mask(untrained, 0.0)
    return pd.DataFrame(found)


def _of_a_pattern(cells: pd.DataFrame) -> NDArray[Any]:
    """Whether a cell has no speed, although there are faster kernels for its pattern."""
    import numpy as np

    return cells["pattern_only"].notna().to_numpy() if "pattern_only" in cells else np.zeros(len(cells), dtype=bool)


def _no_speed(of_a_pattern: NDArray[Any]) -> NDArray[Any]:
    """Why there are no speeds."""
    import numpy as np

    return np.where(of_a_pattern, PATTERN_ONLY, "").astype(object)


def _exact_shares(successes: NDArray[Any], n: NDArray[Any]) -> Floats:
    import numpy as np

    from sgabench.evidence.intervals import exact_share

    different = {(k, m): exact_share(k, m) if m else (math.nan, math.nan) for k, m in {*zip(successes, n, strict=True)}}
    return np.array([different[pair] for pair in zip(successes, n, strict=True)]).reshape(-1, 2)


def _spread(values: pd.Series[float], row: NDArray[Any], rows: int, images: Floats | None) -> Floats:
    """Mean, standard deviation and interval of the known values of each row: shape (4, rows)."""
    import numpy as np

    from sgabench.evidence.intervals import summarize, summarize_accuracy

    known = values.notna().to_numpy()
    found, row = values.to_numpy(dtype=float)[known], row[known]
    order = np.argsort(row, kind="stable")
    found = found[order]
    counted = None if images is None else images[known][order]
    sizes = np.bincount(row, minlength=rows)
    starts = np.cumsum(sizes) - sizes
    numbers = np.full((len(SPREAD), rows), np.nan)
    for n in np.unique(sizes[sizes > 0]):
        places = np.flatnonzero(sizes == n)
        each = starts[places][:, None] + np.arange(n)
        summary: Summary = (
            summarize(found[each]) if counted is None else summarize_accuracy(found[each], counted[starts[places]])
        )
        numbers[:, places] = summary.mean, summary.std, summary.low, summary.high
    return numbers


def _incomplete(row: NDArray[Any], lacking: pd.DataFrame, rows: int) -> list[str]:
    """Which seeds each row lacks and why: ``diverged 1, 3; missing 2``."""
    seeds: list[dict[str, list[str]]] = [{} for _ in range(rows)]
    for place, status, seed in zip(row, lacking["status"], lacking["seed"], strict=True):
        seeds[place].setdefault(status, []).append(str(seed))
    return ["; ".join(f"{status} {', '.join(of_status)}" for status, of_status in each.items()) for each in seeds]
