"""The report as one self-contained page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sgabench.evidence.details import MOST_BLOCKS, Details
from sgabench.evidence.leaderboard import Tables, each_cell
from sgabench.report import plots, summaries
from sgabench.report.display import (
    ARMS,
    CURVE_NOTE,
    LEFT,
    answers,
    curve_table,
    environment_lines,
    failure_lines,
    note,
    sections,
    warnings,
)
from sgabench.report.embedded import libraries, script_json
from sgabench.report.profiles import NOTE, profile_table, profiles_in_words
from sgabench.report.rows import PROBES, probes_as_text
from sgabench.report.series import (
    Style,
    curve_panels,
    layer_maps,
    pareto_panels,
    styles,
    training_panels,
    weight_panels,
)
from sgabench.suite.resolving import Suite

MOST_ROWS = 2500  # of a table: more make browsers slow
MOST_PANELS = 60  # per kind of figure
MOST_POINTS = 5000  # cells drawn as points
PAGE_LENGTH = 25
ANSWERS = 6  # shown unfolded
FIRST = ["data set", "model", "pruner", "ratio", *ARMS, "pruned %", "verdict", "leads", "n", "trained"]
TRAINED = {"loss": "loss", "top1": "top-1", "validation_top1": "validation"}
TEXT = LEFT | {"first", "second", "outcome", "of", "keeps 99 %", "keeps 95 %", "keeps 90 %"}
FILTERS = (
    "probe",
    "number",
    "data set",
    "model",
    "pruner",
    "ratio",
    *ARMS,
    "first",
    "second",
    "leads",
    "outcome",
)


@dataclass(frozen=True)
class Figure:
    """A figure, its heading, and its content in words."""

    title: str
    words: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table; each cell has its text and its sort key."""

    id: str
    caption: str
    columns: list[str]
    rows: list[list[tuple[str, float | None]]]
    left_out: int = 0

    @property
    def text_columns(self) -> set[str]:
        """Left-aligned columns."""
        return {name for name in self.columns if name in TEXT}

    def look(self, row: list[tuple[str, float | None]], place: int) -> Markup:
        """The class attribute of a cell; the best ones are marked."""
        name = self.columns[place]
        best = "leads" in self.columns and row[self.columns.index("leads")][0] and name in ("leads", "pruned %")
        words = name in ("verdict", "seeds lacking")
        classes = [word for word, on in (("text", name in TEXT), ("words", words), ("best", best)) if on]
        return Markup(' class="{}"').format(" ".join(classes)) if classes else Markup("")

    @property
    def filters(self) -> list[int]:
        """Numbers of the columns that can be filtered by value."""
        return [i for i, name in enumerate(self.columns) if name in FILTERS]


def html(
    tables: Tables,
    suite: Suite | None = None,
    *,
    cells: bool = False,
    details: Details | None = None,
    commands: Sequence[str] = (),
) -> str:
    """A page without external resources; every text is escaped.

    Args:
        tables: what is shown.
        suite: whose name, description and file are shown.
        cells: a row per cell in the leaderboard.
        details: training histories, weights and layers.
        commands: how to reproduce it.
    """
    details = details or Details()
    looks = styles(tables, details)
    environment = Environment(
        loader=PackageLoader("sgabench", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(
        suite=suite,
        arm=tables.arm,
        commands=commands,
        warnings=warnings(tables),
        answers=answers(tables),
        shown=ANSWERS,
        note=note(),
        curve_note=CURVE_NOTE,
        profile_note=NOTE,
        failures=failure_lines(tables),
        environments=environment_lines(tables),
        versions=_versions(tables),
        suite_text=_suite_text(suite),
        notes=_notes(tables, details),
        tables=_tables(tables, cells),
        figures=_figures(tables, details, looks),
        ranks=summaries.ranks_in_words(tables.ranks, tables.arm),
        page_length=PAGE_LENGTH,
        templates=script_json(plots.templates()),
        axis_titles=script_json(plots.AXIS_TITLES),
        json=script_json,
        libraries=libraries(),
    )


def _tables(tables: Tables, cells: bool) -> dict[str, Table]:
    shown = each_cell(tables) if cells else tables
    parts = []
    if len(shown.leaderboard) <= MOST_ROWS:
        for (dataset, model), frame in _with_context(shown):
            frame.insert(0, "data set", dataset)
            frame.insert(1, "model", model)
            parts.append(frame)
        board = pd.concat(parts, ignore_index=True).fillna("") if parts else pd.DataFrame()
        # Decisive columns first: a phone shows few of them. Columns with one value are left out.
        same = [name for name in ("data set", "model") if parts and board[name].nunique() == 1]
        of = ", ".join(board[name].iloc[0] for name in same)
        board = board[sorted((str(name) for name in board if name not in same), key=_place)]
        caption = (
            f"Leaderboard{f' of {of}' if of else ''}: a row per {'cell' if cells else f'pruning and {tables.arm}'}"
        )
    else:
        board, caption = curve_table(tables), f"Leaderboard: a row per curve over ratios and {tables.arm}"
    pairs = tables.comparisons
    compared = summaries.comparison_table(pairs) if len(pairs) <= MOST_ROWS else summaries.comparison_counts(pairs)
    curves = curve_table(tables) if len(shown.leaderboard) <= MOST_ROWS else pd.DataFrame()
    profiles = profile_table(tables.profiles, tables.arm) if tables.profiles else pd.DataFrame()
    return {
        "profiles": _table("profiles-table", "Performance profiles", profiles),
        "leaderboard": _table("leaderboard-table", caption, board),
        "curves": _table("curves-table", "Curves over ratios", curves),
        "probes": _table("probes-table", PROBES, _probes(tables)),
        "training": _table("training-table", f"Training, a row per {tables.arm}", summaries.training_table(tables)),
        "pairs": _table("pairs-table", f"Comparisons of {tables.arm}s", compared),
    }


def _place(column: Any) -> int:
    return FIRST.index(column) if column in FIRST else len(FIRST)


def _probes(tables: Tables) -> pd.DataFrame:
    return (
        probes_as_text(tables.probes, tables.arm)
        if tables.probes is not None and len(tables.probes)
        else pd.DataFrame()
    )


def _with_context(tables: Tables) -> Iterable[tuple[tuple[str, str], pd.DataFrame]]:
    names = tables.leaderboard[["dataset", "model"]].drop_duplicates().itertuples(index=False, name=None)
    return zip([(str(d), str(m)) for d, m in names], sections(tables).values(), strict=True)


def _table(identity: str, caption: str, frame: pd.DataFrame) -> Table:
    columns = [str(name) for name in frame.columns]
    numeric = [name not in TEXT or name == "ratio" or name.startswith("keeps") for name in columns]
    rows = [
        [(text, sort_key(text) if number else None) for text, number in zip(map(str, row), numeric, strict=True)]
        for row in frame.head(MOST_ROWS).to_numpy().tolist()
    ]
    if "leads" in columns:
        place = columns.index("leads")
        for cells in rows:
            cells[place] = ("leads" if cells[place][0] else "", None)
    return Table(identity, caption, columns, rows, max(0, len(frame) - MOST_ROWS))


def sort_key(text: str) -> float:
    """The first number of a cell; cells without any come below all numbers, those beyond the tested range above."""
    found = re.search(r"[-+]?\d+(\.\d+)?", text.replace("\N{MINUS SIGN}", "-"))
    if not found:
        return -1e9
    return float(found.group()) + (1e6 if text.startswith("beyond") else 0)


def _figures(tables: Tables, details: Details, looks: dict[str, Style]) -> dict[str, list[Figure]]:
    seeds = len(tables.cells) <= MOST_POINTS
    blocks = _blocks(tables)
    figures: dict[str, list[Figure]] = {}
    if blocks <= MOST_PANELS:
        figures["curves"] = [
            Figure(panel.title, summaries.curves_in_words(panel), plots.curves(panel, looks))
            for panel in curve_panels(tables, seeds=seeds)
        ]
        figures["areas"] = []
    else:
        titles, optimizers, percent = summaries.area_summary(tables)
        words = (
            f"Mean retention from the dense network to the largest ratio: {len(titles)} curves of each {tables.arm}."
        )
        figures["curves"] = []
        figures["areas"] = [Figure("All curves, by their area", words, plots.areas(titles, optimizers, percent))]

    def some(panels: Iterable[Any], words: Callable[[Any], str], plot: Callable[[Any], dict[str, Any]]) -> list[Figure]:
        return [Figure(panel.title, words(panel), plot(panel)) for panel in islice(panels, MOST_PANELS)]

    for cost in plots.COSTS:
        figures[cost] = some(
            pareto_panels(tables, cost),
            lambda panel, cost=cost: summaries.pareto_in_words(panel, cost),  # type: ignore[misc]
            lambda panel, cost=cost: plots.pareto(panel, looks, cost),  # type: ignore[misc]
        )
    figures["weights"] = some(
        weight_panels(details, looks), summaries.weights_in_words, lambda panel: plots.weights(panel, looks)
    )
    figures["layers"] = some(layer_maps(details, looks), summaries.layers_in_words, plots.layers)
    figures["training"] = [
        Figure(f"{panel.title}: {title}", summaries.training_in_words(panel, measure), plot)
        for measure, title in TRAINED.items()
        for panel in islice(training_panels(details, looks, measure), MOST_PANELS)
        for plot in [plots.training(panel, looks, measure)]
    ]
    figures["profiles"] = []
    if tables.profiles:
        words = profiles_in_words(tables.profiles, tables.arm)
        figures["profiles"] = [Figure("Performance profiles", words, plots.profiles(tables.profiles, looks))]
    ranks = tables.ranks
    figures["ranks"] = []
    if ranks.critical_difference == ranks.critical_difference:
        words = summaries.ranks_in_words(ranks, tables.arm)
        figures["ranks"] = [
            Figure("Critical difference of mean ranks, 1 is best", words, plots.critical_difference(ranks))
        ]
    return figures


def _blocks(tables: Tables) -> int:
    return len(tables.leaderboard[["dataset", "model", "pruner", "of"]].drop_duplicates())


def _notes(tables: Tables, details: Details) -> dict[str, str]:
    """Notes on what is left out or summarized because there is too much of it."""
    notes = dict.fromkeys(("leaderboard", "curves", "pairs", "layers", "models"), "")
    rows, pairs, blocks = len(tables.leaderboard), len(tables.comparisons), _blocks(tables)
    every = "sgabench report --format csv has every row"
    if rows > MOST_ROWS:
        notes["leaderboard"] = (
            f"The {rows:,} rows of the leaderboard are too many for one page. This table has a row per curve over the "
            f"ratios instead; {every}."
        )
    if blocks > MOST_PANELS:
        notes["curves"] = (
            f"{blocks:,} panels of curves are too many for one page. The map has the area under each curve instead; "
            "sgabench report --only draws the curves of some trials."
        )
    elif len(tables.cells) > MOST_POINTS:
        notes["curves"] = f"The points of single seeds are left out: there are {len(tables.cells):,} cells."
    if pairs > MOST_ROWS:
        notes["pairs"] = (
            f"The {pairs:,} comparisons are counted, over all data sets, models and prunings; sgabench report --format "
            "json has each."
        )
    if details.layer_blocks > MOST_BLOCKS:
        notes["layers"] = f"The first {MOST_BLOCKS} of {details.layer_blocks} (data set, model, pruner) are drawn."
    models = len(tables.leaderboard[["dataset", "model"]].drop_duplicates())
    if models > MOST_PANELS:
        notes["models"] = f"The first {MOST_PANELS} of {models} pairs of data set and model are drawn."
    return notes


def _versions(tables: Tables) -> list[str]:
    found: dict[str, None] = {}
    for environment in tables.environments:
        found.update({f"{name} {number}": None for name, number in sorted(environment["packages"].items())})
    return list(found)


def _suite_text(suite: Suite | None) -> str:
    if suite is None:
        return ""
    try:
        return suite.source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""
