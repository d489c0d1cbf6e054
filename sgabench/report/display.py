"""Numbers and words as shown to a reader, the same in every format."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from sgabench.errors import counted
from sgabench.evidence.budgets import IS_BUDGET
from sgabench.evidence.comparison import in_points, rows_of, size
from sgabench.evidence.curves import KEEPS
from sgabench.evidence.decisions import FEWEST, MOST_SEEDS
from sgabench.evidence.leaderboard import Tables
from sgabench.evidence.mixing import code_of
from sgabench.report.folder import FAILURES
from sgabench.system.tracebacks import has_traceback, in_a_line

HEADINGS = {
    "pruner": "pruner",
    "ratio": "ratio",
    "optimizer": "optimizer",
    "n": "n",
    "trained": "trained",
    "dense": "dense %",
    "pruned": "pruned %",
    "top5": "top-5 %",
    "retention": "retention %",
    "interval": "95 % interval",
    "leading": "leads",
    "verdict": "verdict",
    "sparsity": "sparsity %",
    "compression": "compression",
    "theoretical": "theory",
    "measured": "measured",
    "passes": "passes",
    "seconds": "train s",
    "incomplete": "seeds lacking",
}
ARMS = ("optimizer", "checkpoint", "training")  # a table has a column for one of them
LEFT = {
    *("data set", "model", "pruner", "ratio", *ARMS, "trained", "leads", "verdict", "seeds lacking"),
    *("probe", "number", "layer"),
}
OPTIONAL = ("trained", "top5", "measured", "interval", "leading", "verdict", "passes", "seconds", "incomplete")
_EXPLAINED = {
    ("dense", "pruned"): "Dense, pruned: top-1 on the test split, mean ± standard deviation over n seeds; a training "
    "that diverged or stayed at chance counts as guessing.",
    ("trained",): "Trained: seeds that are better than guessing, with the exact 95 % interval of their share.",
    ("top5",): "Top-5: after pruning, the right class is among the first five; from 20 classes on.",
    ("retention",): "Retention: pruned / dense top-1 of the same trial.",
    ("interval",): "Interval: 95 % for the mean of pruned top-1.",
    ("leading",): "Leads: not shown to be worse than any other, and above all that are.",
    (
        "verdict",
    ): "Verdict: difference in pruned top-1, paired by seed, with a simultaneous 95 % interval for all verdicts of "
    "this report; whole curves first, single ratios inside those that are decided.",
    ("sparsity",): "Sparsity: zeros among the prunable weights.",
    ("compression",): "Compression: parameters / non-zero parameters.",
    ("theoretical",): "Theory: speedup by multiply-adds, all / those on non-zero weights.",
    ("measured",): "Measured: speedup of inference, median over seeds of the time of the dense network / of the pruned "
    "one; empty where weights are only masked, which makes nothing faster. Pattern only: nor does a pattern such as "
    "2:4 without kernels for it.",
    (
        "passes",
        "seconds",
    ): "Passes, train s: how often a batch went forward and backward in a training, and its seconds; "
    "shown where the passes differ, as such trainings do not cost the same.",
}
_LIMITS = re.compile(r" \([-+.\de]+ to [-+.\de]+\)")
CURVE_NOTE = (
    "Accuracy: top-1 after pruning, mean over the ratios, with its 95 % interval. Area: mean retention from the dense "
    "network to the largest ratio. Keeps: the largest ratio at which the mean retention is at least so much, linear "
    "between the ratios that were measured."
)


def note(shown: Collection[str] | None = None) -> str:
    """The meaning of columns of the leaderboard.

    Args:
        shown: their headings; None: all.
    """
    wanted = HEADINGS.values() if shown is None else shown
    return " ".join(text for names, text in _EXPLAINED.items() if any(HEADINGS[name] in wanted for name in names))


def sections(tables: Tables) -> dict[str, pd.DataFrame]:
    """The leaderboard as text, a table per data set and model: each pruner's whole curve, then its ratios.

    Returns:
        Title to table; a table's columns are headings, and empty ones are left out.
    """
    board = tables.leaderboard
    texts = pd.DataFrame(_texts(board), dtype=object)
    curves = _curve_rows(tables)
    parts = {}
    of_model: dict[Any, Any] = dict(board.groupby(["dataset", "model"], sort=False).indices)
    for (dataset, model), rows in of_model.items():
        table = texts.iloc[rows]
        if len(set(table["passes"]) - {""}) < 2:
            table = table.assign(passes="", seconds="")
        shown = _with_curves(table, curves.get((dataset, model), {}))
        empty = [name for name in OPTIONAL if not (shown[name] != "").any()]
        parts[f"{dataset}, {model}"] = shown.drop(columns=empty).rename(columns={**HEADINGS, "optimizer": tables.arm})
    return parts


def _with_curves(shown: pd.DataFrame, curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    blocks = []
    for pruner, block in shown.groupby("pruner", sort=False):
        blocks += [curves[str(pruner)]] if str(pruner) in curves else []
        blocks.append(block)
    return pd.concat(blocks, ignore_index=True)[list(HEADINGS)]


def _curve_rows(tables: Tables) -> dict[tuple[Any, Any], dict[str, pd.DataFrame]]:
    """The rows of whole curves, best first, by data set and model, then pruner; without curves of one ratio."""
    curves = tables.curves
    found: dict[tuple[Any, Any], dict[str, list[dict[str, str]]]] = {}
    if curves.empty or (len(tables.leaderboard) and tables.leaderboard["n"].max() == 0):
        return {}
    names = ["dataset", "model", "pruner", "of", "optimizer"]
    board = tables.leaderboard
    # A mean over budgets is labelled as such.
    of_lengths = board[board["interpolated"] & ~board["of"].isin(IS_BUDGET)]
    between = {*of_lengths[names].itertuples(index=False, name=None)}
    for row in rows_of(curves.sort_values("accuracy", ascending=False, kind="stable", na_position="last")):
        if row["ratios"] < 2 or not row["n"] or not tables.reference:
            continue
        place = tuple(row[name] for name in names)
        texts = dict.fromkeys(HEADINGS, "") | {
            "pruner": str(row["pruner"]),
            "ratio": f"mean of {row['ratios']} {'budgets' if row['of'] in IS_BUDGET else 'ratios'}",
            "optimizer": str(row["optimizer"]) + (" (interpolated)" if place in between else ""),
            "n": str(row["n"]),
            "pruned": spread(row["accuracy"], row["accuracy_std"]),
            "interval": interval(row["accuracy_low"], row["accuracy_high"]),
            "leading": "*" if row["leading"] else "",
            "verdict": str(row["verdict"]),
        }
        found.setdefault((row["dataset"], row["model"]), {}).setdefault(str(row["pruner"]), []).append(texts)
    return {
        place: {pruner: pd.DataFrame(rows, dtype=object) for pruner, rows in of_place.items()}
        for place, of_place in found.items()
    }


def _texts(board: pd.DataFrame) -> dict[str, list[str]]:
    column = {str(name): board[name].tolist() for name in board}
    return {
        "pruner": list(map(str, column["pruner"])),
        "ratio": [
            ratio(row) + (", not reached" if row["missed_target"] else "")
            for row in rows_of(board[["ratio", "of", "missed_target"]])
        ],
        "optimizer": _optimizers(column),
        "n": list(map(str, column["n"])),
        "trained": [
            "" if not n or k == n else f"{k} of {n} ({percent(low)} to {percent(high)} %)"
            for k, n, low, high in zip(
                column["trained"], column["n"], column["trained_low"], column["trained_high"], strict=True
            )
        ],
        "dense": list(map(spread, column["dense_top1_mean"], column["dense_top1_std"])),
        "pruned": list(map(spread, column["pruned_top1_mean"], column["pruned_top1_std"])),
        "top5": list(map(percent, column["pruned_top5"])),
        "retention": list(map(spread, column["retention_mean"], column["retention_std"])),
        "interval": list(map(interval, column["pruned_top1_low"], column["pruned_top1_high"])),
        "leading": ["*" if leads else "" for leads in column["leading"]],
        "verdict": list(map(str, column["verdict"])),
        "sparsity": list(map(percent, column["sparsity"])),
        "compression": list(map(times, column["compression_ratio"])),
        "theoretical": list(map(times, column["theoretical_speedup"])),
        "measured": [
            reason or times(speed) for speed, reason in zip(column["measured_speedup"], column["no_speed"], strict=True)
        ],
        "passes": list(map(_whole, column["train_passes"])),
        "seconds": list(map(_whole, column["train_seconds"])),
        "incomplete": list(map(str, column["incomplete"])),
    }


def _optimizers(column: Mapping[str, list[Any]]) -> list[str]:
    """Names of rows; marked if interpolated between two lengths of a training (for budgets, the ratio is marked)."""
    marks = [
        " (interpolated)" if interpolated and of not in IS_BUDGET else ""
        for interpolated, of in zip(column["interpolated"], column["of"], strict=True)
    ]
    seeds = [f" seed {seed}" for seed in column["seed"]] if "seed" in column else [""] * len(marks)
    return [f"{name}{seed}{mark}" for name, seed, mark in zip(column["optimizer"], seeds, marks, strict=True)]


def ratio(row: Mapping[Any, Any]) -> str:
    """The requested ratio, ``0.5 of weights``, or an achieved budget, ``2x compression (interpolated)``."""
    return (
        f"{row['ratio']:g}x {row['of']} (interpolated)"
        if row["of"] in IS_BUDGET
        else f"{row['ratio']:g} of {row['of']}"
    )


def answers(tables: Tables) -> list[str]:
    """A sentence for each data set, model and pruner: which is better and by how much, or what it costs to decide."""
    if tables.curves.empty:
        return []
    seconds = pd.to_numeric(tables.trials.get("seconds", pd.Series(dtype=float))).mean()
    lines = []
    of_curve: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows_of(tables.curves):
        of_curve.setdefault((row["dataset"], row["model"], row["pruner"]), []).append(row)
    for (dataset, model, pruner), rows in of_curve.items():
        judged = [row for row in rows if row["outcome"] != "reference"]
        if judged and tables.reference:
            lines.append(f"{dataset}, {model}, {pruner}: {_answer(judged, tables, seconds)}.")
    return [*lines, *(f"Note: {note}." for note in tables.notes)]


def _answer(rows: list[dict[str, Any]], tables: Tables, seconds: float) -> str:
    reference, resolution = _label(tables.reference), 100 * tables.question.resolution
    of: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: -abs(row["difference"])):
        of.setdefault(row["outcome"], []).append(row)
    better, worse = of.get("better", []), of.get("worse", [])
    parts = []
    if better:
        first, *others = better
        parts.append(f"{_label(first['optimizer'])} is better than {reference} by {size(first)}{_over(first)}")
        parts += [f"also better: {', '.join(map(_named, others))}"] if others else []
    elif worse:
        parts.append(f"nothing is shown to be better than {reference}{_over(worse[0])}")
    parts += [f"worse: {', '.join(map(_named, worse))}"] if worse else []
    if same := of.get("same", []):
        parts.append(f"the same as {reference} within {in_points(resolution)}: {_names(same)}")
    if left := of.get("undecided", []) + of.get("fewer", []):
        seeds = min(row["n_paired"] for row in left)
        clause = f"undecided: {_names(left)}"
        if not parts:
            clause = f"nothing is decided with {counted(seeds, 'seed')} ({_names(left)} against {reference})"
        parts.append(clause + _cost(left, reference, seconds))
    if few := of.get("few", []) + of.get("none", []):
        clause = f"too few seeds: {_names(few)}"
        parts.append(clause if parts else f"no verdict; at least {FEWEST} seeds are needed of each {tables.arm}")
    return "; ".join(parts)


def _names(rows: list[dict[str, Any]]) -> str:
    return ", ".join(_label(row["optimizer"]) for row in rows)


def _label(label: str) -> str:
    """In quotation marks where a comma would make two of it."""
    return f'"{label}"' if "," in label else label


def _over(row: Mapping[Any, Any]) -> str:
    n = f"n = {row['n_paired']}"
    return f", mean of {row['ratios']} ratios, {n}" if row["ratios"] > 1 else f", {n}"


def _named(row: Mapping[Any, Any]) -> str:
    return f"{_label(row['optimizer'])} by {size(row)}"


def _cost(rows: list[dict[str, Any]], reference: str, seconds: float) -> str:
    """The seeds and trainings that would decide the easiest open comparison."""
    easiest = min(rows, key=lambda row: (row["more_seeds"], row["most_seeds"]))
    few, many = easiest["more_seeds"], easiest["most_seeds"]
    if not few:
        return ""
    if few >= MOST_SEEDS:
        return f"; more than {MOST_SEEDS} more seeds would be needed"
    seeds = f"at least {few}" if many >= MOST_SEEDS else f"{few} to {many}" if many > few else str(few)
    more = f"{seeds} more seed{'' if max(few, many) == 1 else 's'}"
    known = seconds == seconds
    minutes = max(1, round(2 * few * seconds / 60)) if known else 0
    time = f" (at least {2 * few} trainings, about {minutes} minute{'s' if minutes > 1 else ''})" if known else ""
    more += f" of {_label(easiest['optimizer'])} and {reference}"
    return f"; {more}{time} would decide a difference like the observed one"


def without_limits(verdict: str) -> str:
    """A verdict for little space: "better than sgd by 41.2 points"."""
    return _LIMITS.sub("", re.sub(r"^undecided: [^;]*", "undecided", verdict))


def in_short(verdict: str) -> str:
    """A verdict for very little space: "better by 41.2", "same", "undecided"."""
    differs = re.match(r"(better|worse) than .* by ([\d.]+) points \(", verdict, re.DOTALL)
    if differs:
        return f"{differs[1]} by {differs[2]}"
    for beginning, word in (("the same as", "same"), ("undecided", "undecided"), ("no verdict", "few seeds")):
        if verdict.startswith(beginning):
            return word
    return verdict


def curve_table(tables: Tables) -> pd.DataFrame:
    """The summaries of the retention curves, as text."""
    rows = []
    for row in rows_of(tables.curves):
        of = row["of"]
        place = "{:.2f}x".format if of in IS_BUDGET else "{:.2f}".format
        kept = {f"keeps {round(100 * level)} %": _kept(row, f"keeps_{round(100 * level)}", place) for level in KEEPS}
        rows.append(
            {
                "data set": str(row["dataset"]),
                "model": str(row["model"]),
                "pruner": f"{row['pruner']}, of {of}" if of not in IS_BUDGET else f"{row['pruner']}, {of}",
                tables.arm: str(row["optimizer"]),
                "n": str(row["n"]),
                "accuracy %": percent(row["accuracy"]),
                "95 % interval": interval(row["accuracy_low"], row["accuracy_high"]),
                "area %": percent(row["area"]),
                **kept,
                "verdict": str(row["verdict"]),
            }
        )
    return pd.DataFrame(rows)


def _kept(row: Mapping[Any, Any], name: str, place: Any) -> str:
    value = row[name]
    if _is_unknown(value):
        return ""
    return f"beyond {row['largest_ratio']:g}" if value == float("inf") else str(place(value))


def _is_unknown(value: float | None) -> bool:
    return value is None or value != value


def interval(low: float, high: float) -> str:
    """``68.1 to 77.6`` in percent; empty if there is none."""
    return "" if _is_unknown(low) else f"{percent(low)} to {percent(high)}"


def percent(value: float) -> str:
    """A fraction in percent, one decimal; empty if there is none."""
    return "" if value is None or value != value else f"{100 * value:.1f}"


def spread(mean: float, std: float) -> str:
    """``51.8 ± 3.1`` in percent; only the mean if there is one seed."""
    return percent(mean) if _is_unknown(std) else f"{percent(mean)} ± {100 * std:.1f}"


def _whole(value: float) -> str:
    return "" if _is_unknown(value) else f"{value:.0f}"


def times(value: float) -> str:
    """A ratio: ``2.00x``."""
    return "" if value is None or value != value else f"{value:.2f}x"


def failure_lines(tables: Tables, limit: int = 20) -> list[str]:
    """A line per failure, with the exception and its place; and a line per network at chance."""
    rows = tables.failures.to_dict("records")
    lines = [f"{row['status']}: {row['kind']} {row['name']}: {in_a_line(str(row['error']))}" for row in rows[:limit]]
    lines += [f"... and {len(rows) - limit} more"] if len(rows) > limit else []
    if any(has_traceback(str(row["error"])) for row in rows):
        lines.append(f"tracebacks: in {FAILURES}, beside the run's leaderboard, and under failures in --format json")
    trials = tables.trials
    guessing = trials[trials["at_chance"]].to_dict("records") if "at_chance" in trials else []
    return lines + [
        f"at chance: trial {row['dataset']}/{row['model']}/{row['optimizer']}/{row['seed']}: dense top-1 "
        f"{percent(row['top1'])} %, no better than guessing among {row['classes']:g} classes; it counts as guessing"
        for row in guessing[:limit]
    ]


def failures_text(tables: Tables) -> str:
    """Every failure with its full traceback."""
    rows = tables.failures.to_dict("records")
    return "\n".join(f"{row['status']}: {row['kind']} {row['name']}\n{str(row['error']).strip()}\n" for row in rows)


def warnings(tables: Tables) -> list[str]:
    """Shown above the tables in every format: how rows were made differently, and what is left out."""
    return [f"Warning: {line}." for line in tables.warnings]


def environment_lines(tables: Tables) -> list[str]:
    """A line per environment that the trials were run in."""
    lines = [f"{environment_line(environment)} a trial" for environment in tables.environments]
    return list(dict.fromkeys(lines))


def environment_line(environment: Mapping[str, Any]) -> str:
    """Versions, device and cores of an environment, in one line."""
    packages = environment["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "torchvision") if name in packages)
    if code := code_of(environment):
        versions = f"sgabench {code}, {versions}"
    device = environment.get("gpu") or environment["cpu"]
    threads = f"{environment['threads']} of {environment['cores']} cores"
    return f"{versions}, Python {environment['python']}; {environment['device']}: {device}, {threads}"
