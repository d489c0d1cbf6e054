"""Records to tables: every trial, every cell, and the leaderboard that ranks optimizers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sgabench.errors import InputError, suggestion
from sgabench.plan import Plan, content_key
from sgabench.store import Record, Store

if TYPE_CHECKING:
    import pandas as pd

    from sgabench.comparison import Pairs, Ranks

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
            optimizer (`sgabench.comparison.verdicts`), best pruned top-1 first.
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

        from sgabench.comparison import PAIR_COLUMNS, compare

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
        """Summaries of the retention curves: `sgabench.comparison.curves`."""
        from sgabench.comparison import curves

        return curves(self.cells)

    @cached_property
    def ranks(self) -> Ranks:
        """Mean ranks of the optimizers over data sets, models and pruners."""
        from sgabench.comparison import ranks

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
            interpolated (`sgabench.comparison.at_budget`).

    Raises:
        InputError: the reference is not among the optimizers.
    """
    import pandas as pd

    if plan is None:
        trials, cells, failures = _everything(store)
    else:
        trials, cells, failures = _of_plan(store, plan)
    found = [environment for row in (*trials, *cells) if (environment := row.pop("environment")) is not None]
    different = {id(environment): environment for environment in found}  # a store hands out one object for all
    environments = {content_key(environment): environment for environment in different.values()}
    failure_columns = ["kind", "name", "status", "error"]
    trials, cells = _told_apart(trials, cells)
    frame = pd.DataFrame(cells)
    if by != "ratio":
        from sgabench.comparison import at_budget

        frame = at_budget(frame, by)
    chosen = _reference(frame, plan, reference)
    return Tables(
        _leaderboard(frame, chosen),
        frame.drop(columns=["group", "pruner_key"], errors="ignore"),
        pd.DataFrame(trials).drop(columns="group", errors="ignore"),
        pd.DataFrame(failures, columns=failure_columns),
        tuple(environments.values()),
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
    from sgabench.comparison import compare

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


Rows = list[dict[str, Any]]


def _of_plan(store: Store, plan: Plan) -> tuple[Rows, Rows, Rows]:
    keys = {trial.key for trial in plan.trials}
    trial_records = {record.key: record for record in store.records("trial", keys)}
    cell_keys = {cell.key for _, cell in plan.cells()}
    cell_records = {record.key: record for record in store.records("cell", cell_keys, description=False)}
    probe_keys = {probe.key for trial in plan.trials for probe in trial.probes}
    probe_keys |= {probe.key for _, cell in plan.cells() for probe in cell.probes}
    trials, cells = [], []
    for trial in plan.trials:
        record = trial_records.get(trial.key)
        trials.append(_trial_row(trial.key, trial.labels(), record))
        for cell in trial.cells:
            identity = {**trial.labels(cell), "pruner_key": ""}
            cells.append(_cell_row(cell.key, identity, cell_records.get(cell.key), record))
    found = [*trial_records.values(), *cell_records.values(), *store.records("probe", probe_keys)]
    return trials, cells, _failures(found)


def _everything(store: Store) -> tuple[Rows, Rows, Rows]:
    trial_records = {record.key: record for record in store.records("trial")}
    cell_records = list(store.records("cell"))
    cells = []
    asked: dict[tuple[Any, Any], dict[tuple[Any, ...], dict[str, Any]]] = {}  # per data set and model
    for record in cell_records:
        description = {key: value for key, value in record.description.items() if key != "ratio"}
        labels = {**record.labels, "pruner_key": content_key(description)}
        cells.append(_cell_row(record.key, labels, record, trial_records.get(record.parent or "")))
        pruning = {name: labels[name] for name in ("pruner", "ratio", "of", "pruner_key")}
        asked.setdefault((labels["dataset"], labels["model"]), {})[tuple(pruning.values())] = pruning
    for trial in trial_records.values():
        if trial.status != "done":  # it has no cells, and must not vanish for that
            for pruning in asked.get((trial.labels["dataset"], trial.labels["model"]), {}).values():
                cells.append(_cell_row("", {**trial.labels, **pruning}, None, trial))
    cells.sort(key=lambda row: tuple(str(row[name]) for name in (*GROUP, "seed")))
    trials = [_trial_row(record.key, record.labels, record) for record in trial_records.values()]
    trials.sort(key=lambda row: tuple(str(row[name]) for name in ("dataset", "model", "optimizer", "seed")))
    return trials, cells, _failures([*trial_records.values(), *cell_records, *store.records("probe")])


def _trial_row(key: str, labels: Mapping[str, Any], record: Record | None) -> dict[str, Any]:
    status = record.status if record else "missing"
    result = record.result if record else {}
    chance = {"at_chance": _at_chance(result)}
    return {**labels, "status": status, **result, **chance, "key": key, **_made_in(record)}


def _at_chance(result: Mapping[str, Any]) -> bool:
    """Whether a network is no better than guessing, within three standard deviations of guesses."""
    classes, images, top1 = (result.get(name) for name in ("classes", "test_images", "top1"))
    if not (classes and images and top1 is not None):
        return False
    chance = 1 / classes
    return bool(top1 <= chance + 3 * math.sqrt(chance * (1 - chance) / images))


def _made_in(record: Record | None) -> dict[str, Any]:
    """What of the environment a table shows, and all of it for `Tables.environments`."""
    environment = record.environment if record else None
    shown = {name: environment[name] if environment else None for name in ("device", "threads")}
    return {**shown, "environment": environment}


def _cell_row(key: str, labels: Mapping[str, Any], record: Record | None, trial: Record | None) -> dict[str, Any]:
    if trial is not None and trial.status != "done":
        status: str = trial.status
    else:
        status = record.status if record else "missing"
    dense = trial.result if trial else {}
    result = dict(record.result) if record else {}
    return {
        **labels,
        "status": status,
        "dense_top1": dense.get("top1"),
        "dense_loss": dense.get("loss"),
        "pruned_top1": result.pop("top1", None),
        "pruned_loss": result.pop("loss", None),
        "dense_images_per_s": dense.get("images_per_s"),
        **result,
        "key": key,
        **_made_in(record),
    }


def _failures(records: Iterable[Record]) -> Rows:
    return [
        {"kind": record.kind, "name": _name(record), "status": record.status, "error": record.error}
        for record in records
        if record.status != "done"
    ]


def _name(record: Record) -> str:
    labels = record.labels
    parts = [labels.get(part) for part in ("dataset", "model", "optimizer", "seed", "pruner", "ratio", "probe")]
    return "/".join(str(part) for part in parts if part is not None)


def _told_apart(trials: Rows, cells: Rows) -> tuple[Rows, Rows]:
    """Mark labels that stand for different things, so that these are never averaged, compared or joined to a curve."""
    of_optimizer: dict[tuple[Any, ...], set[str]] = {}
    of_pruner: dict[tuple[Any, ...], set[str]] = {}
    optimizer = itemgetter("dataset", "model", "optimizer")
    pruner = itemgetter("dataset", "model", "pruner", "of")
    for row in (*trials, *cells):
        of_optimizer.setdefault(optimizer(row), set()).add(row["group"])
    for row in cells:
        of_pruner.setdefault(pruner(row), set()).add(row["pruner_key"])
    several = {name for name, groups in of_optimizer.items() if len(groups) > 1}
    pruners = {name for name, keys in of_pruner.items() if len(keys) > 1}
    if several or pruners:
        marked = [
            (row, optimizer(row) in several, "pruner" in row and pruner(row) in pruners) for row in (*trials, *cells)
        ]
        for row, mark_optimizer, mark_pruner in marked:
            if mark_optimizer:
                row["optimizer"] = f"{row['optimizer']} [{row['group'][:6]}]"
            if mark_pruner:
                row["pruner"] = f"{row['pruner']} [{row['pruner_key'][:6]}]"
    return trials, cells


def _leaderboard(cells: pd.DataFrame, reference: str) -> pd.DataFrame:
    import pandas as pd

    spread = [f"{name}_{number}" for name in WITH_SPREAD for number in SPREAD]
    columns = [*GROUP, "n", "incomplete", *spread, *MEANS, *NO_VERDICT]
    if cells.empty:
        return pd.DataFrame(columns=columns)
    nothing = pd.Series(float("nan"), index=cells.index)
    cells = cells.assign(**{name: pd.to_numeric(cells.get(name, nothing)) for name in (*WITH_SPREAD, *MEANS)})
    done = cells[cells["status"] == "done"]
    order = cells[GROUP].drop_duplicates().reset_index(drop=True)
    grouped = done.groupby(GROUP, sort=False)
    board = order.set_index(GROUP)
    board["n"] = grouped.size()
    board["n"] = board["n"].fillna(0).astype(int)
    board["incomplete"] = _incomplete(cells)
    board["incomplete"] = board["incomplete"].fillna("")
    board = board.join(_spread(done))
    for name in MEANS:
        board[name] = grouped[name].mean()
    board = board.join(_verdicts(done, reference))
    board = board.fillna({name: empty for name, empty in NO_VERDICT.items() if empty == empty})
    board = board.reset_index()[columns].astype({"best": bool, "n_paired": int, "seeds_needed": int})
    places = {
        name: {value: i for i, value in enumerate(order[name].unique())} for name in ("dataset", "model", "pruner")
    }
    ranks = board.assign(**{name: board[name].map(place) for name, place in places.items()})
    by = ["dataset", "model", "pruner", "ratio", "pruned_top1_mean"]
    ranked = ranks.sort_values(by, ascending=[True, True, True, True, False], kind="stable", na_position="last")
    return board.loc[ranked.index].reset_index(drop=True)


def _spread(done: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and interval of each metric, by group of seeds."""
    import numpy as np
    import pandas as pd

    from sgabench.statistics import summarize

    group = done.groupby(GROUP, sort=False).ngroup().to_numpy()
    order = np.argsort(group, kind="stable")
    board = done[GROUP].drop_duplicates().set_index(GROUP)
    for name in WITH_SPREAD:
        values = done[name].to_numpy(dtype=float)[order]
        known = ~np.isnan(values)
        sizes = np.bincount(group[order][known], minlength=len(board))
        starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
        values = values[known]
        numbers = np.full((len(SPREAD), len(board)), np.nan)
        for n in np.unique(sizes[sizes > 0]):
            rows = np.flatnonzero(sizes == n)
            summary = summarize(values[starts[rows][:, None] + np.arange(n)])
            numbers[:, rows] = summary.mean, summary.std, summary.low, summary.high
        board = board.join(pd.DataFrame(numbers.T, board.index, [f"{name}_{number}" for number in SPREAD]))
    return board


def _verdicts(done: pd.DataFrame, reference: str) -> pd.DataFrame:
    import pandas as pd

    from sgabench.comparison import verdict, verdicts

    parts = [verdicts(pairs, reference) for pairs in _compare(done, "pruned_top1")]
    if not parts:
        return pd.DataFrame(columns=[*GROUP, *NO_VERDICT]).set_index(GROUP)
    board = pd.concat(parts, ignore_index=True)
    board["verdict"] = [verdict(row) for row in board.to_dict("records")]
    return board.set_index(GROUP)[list(NO_VERDICT)]


def _incomplete(cells: pd.DataFrame) -> pd.Series[str]:
    """Which seeds a row lacks and why: ``diverged 1, 3; missing 2``."""
    lacking = cells[cells["status"] != "done"].assign(seed=cells["seed"].astype(str))
    seeds = lacking.groupby([*GROUP, "status"], sort=False)["seed"].agg(", ".join).reset_index("status")
    return (seeds["status"] + " " + seeds["seed"]).groupby(GROUP, sort=False).agg("; ".join)
