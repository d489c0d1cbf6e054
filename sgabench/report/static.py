"""The figures as files for papers, PNG and SVG, made with matplotlib."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgabench.errors import InputError
from sgabench.evidence.budgets import IS_BUDGET
from sgabench.evidence.details import Details
from sgabench.evidence.leaderboard import Tables
from sgabench.evidence.ranks import Profiles, Ranks
from sgabench.report.series import (
    MEASURES,
    Panel,
    Style,
    cliques,
    curve_panels,
    pareto_front,
    pareto_panels,
    styles,
    training_panels,
    weight_panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_FILES = 60  # of a kind
SIZE = (5.2, 3.6)  # inches
LINES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "cross": "P",
    "x": "X",
    "pentagon": "p",
    "star": "*",
}
# The same numbers give the same file: no date, no random identifiers. Dollar signs in names are not formulas.
SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "sgabench",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "savefig.dpi": 200,
}
COSTS = {"images_per_s": ("speed", "measured images/s"), "nonzero_params": ("size", "non-zero parameters")}
FILE_NAMES = {"loss": "loss", "top1": "top1", "validation_top1": "validation"}


def require_matplotlib() -> None:
    """See that there is something to draw with.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise InputError("--figures: matplotlib is not installed; run: pip install matplotlib") from None


def write_figures(tables: Tables, details: Details, folder: Path) -> list[Path]:
    """Write every figure as PNG and SVG.

    Returns:
        The files. At most `MOST_FILES` figures of a kind are written.

    Raises:
        InputError: matplotlib is not installed, or the folder cannot be written.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
            for name, draw in _named(_drawings(tables, details)):
                figure = Figure(figsize=SIZE, layout="constrained")
                FigureCanvasAgg(figure)
                draw(figure.add_subplot())
                for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                    written.append(folder / f"{name}.{ending}")
                    figure.savefig(written[-1], metadata=metadata)
    except OSError as error:
        raise InputError(f"--figures {folder}: {error.strerror or error}") from None
    return written


Drawing = tuple[str, "Callable[[Axes], None]"]


def _drawings(tables: Tables, details: Details) -> Iterator[Drawing]:
    looks = styles(tables, details)

    def several(kind: str, panels: Iterator[Panel], draw: Callable[..., None], *more: Any) -> Iterator[Drawing]:
        for panel in islice(panels, MOST_FILES):
            yield f"{kind} {panel.title}", lambda axes, panel=panel: draw(axes, panel, looks, *more)  # type: ignore[misc]

    yield from several("curves", curve_panels(tables), _curves)
    for cost, (name, label) in COSTS.items():
        yield from several(f"pareto {name}", pareto_panels(tables, cost), _pareto, cost, label)
    yield from several("weights", weight_panels(details, looks), _lines, "log10 |w|", "weights in each bin, %")
    for measure, name in FILE_NAMES.items():
        panels = training_panels(details, looks, measure)
        yield from several(f"training {name}", panels, _lines, "epoch", MEASURES[measure])
    if tables.profiles:
        found = tables.profiles
        yield "performance profiles", lambda axes: _profiles(axes, found, looks)
    if tables.ranks.critical_difference == tables.ranks.critical_difference:
        yield "critical difference", lambda axes: _critical_difference(axes, tables.ranks)


def _named(drawings: Iterator[Drawing]) -> Iterator[Drawing]:
    """Names that are good for files, each once."""
    taken: set[str] = set()
    for title, draw in drawings:
        base = name = re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.")[:120]
        number = 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        yield name, draw


def _label(name: str) -> str:
    """A name for a legend, which hides those that begin with an underscore."""
    text = name if len(name) <= 40 else name[:39] + "…"
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def _curves(axes: Axes, panel: Panel, looks: Mapping[str, Style]) -> None:
    for curve in panel.lines:
        look = looks[curve.optimizer]
        x = curve.x["ratio"]
        axes.fill_between(x, curve.low, curve.high, color=look.color, alpha=0.15, linewidth=0)
        if len(curve.seeds):
            axes.plot(
                curve.seeds["ratio"], curve.seeds["top1"], MARKERS[look.symbol], color=look.color, alpha=0.35, ms=2.5
            )
        style: Any = {"linestyle": LINES[look.dash], "marker": MARKERS[look.symbol], "ms": 4}
        axes.plot(x, curve.mean, color=look.color, label=_label(curve.optimizer), **style)
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
    place = f"{panel.of}, times" if panel.of in IS_BUDGET else f"ratio, of {panel.of}"
    _finish(axes, panel.title, place, "top-1, %")


def _pareto(axes: Axes, panel: Panel, looks: Mapping[str, Style], cost: str, label: str) -> None:
    every_cost = np.concatenate([cloud.cost for cloud in panel.lines])
    every_top1 = np.concatenate([cloud.top1 for cloud in panel.lines])
    front = pareto_front(every_cost, every_top1, more_is_better=cost == "images_per_s")
    axes.plot(every_cost[front], every_top1[front], ":", color="#888888", label="Pareto front")
    pruners = list(dict.fromkeys(pruner for cloud in panel.lines for pruner in cloud.pruners if pruner))
    markers = {"": "*", **{name: list(MARKERS.values())[i % 8] for i, name in enumerate(pruners)}}
    for cloud in panel.lines:
        look = looks[cloud.optimizer]
        filled: Any = {"color": look.color, "fillstyle": "none" if look.repeated else "full"}
        axes.plot([], [], "o", **filled, label=_label(cloud.optimizer))
        for x, y, pruner in zip(cloud.cost, cloud.top1, cloud.pruners, strict=True):
            axes.plot(x, y, markers[pruner], **filled, ms=8 if not pruner else 5)
    for name in ("", *pruners):
        axes.plot([], [], markers[name], color="#555555", label=_label(name or "dense"))
    _finish(axes, panel.title, label, "top-1, %")


def _lines(axes: Axes, panel: Panel, looks: Mapping[str, Style], x: str, y: str) -> None:
    for line in panel.lines:
        look = looks[line.optimizer]
        axes.fill_between(line.x, line.least, line.most, color=look.color, alpha=0.15, linewidth=0)
        style: Any = {"linestyle": LINES[look.dash], "marker": MARKERS[look.symbol] if len(line.x) == 1 else ""}
        axes.plot(line.x, line.y, color=look.color, label=_label(line.optimizer), **style)
    _finish(axes, panel.title, x, y)


def _profiles(axes: Axes, found: Profiles, looks: Mapping[str, Style]) -> None:
    for i, name in enumerate(found.optimizers):
        look, x = looks[name], 100 * found.levels
        axes.fill_between(
            x, 100 * found.share_low[i], 100 * found.share_high[i], color=look.color, alpha=0.12, linewidth=0
        )
        axes.plot(x, 100 * found.share[i], LINES[look.dash], color=look.color, label=_label(name))
    title = f"performance profiles over {found.blocks} pairs of data set and model"
    _finish(axes, title, "pruned top-1 of a run, mean over prunings, %", "runs with at least that, %")


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    handles, labels = axes.get_legend_handles_labels()
    if handles:  # below the axes: inside, it would cover the data
        columns = 1 if max(map(len, labels)) > 30 else 2 if max(map(len, labels)) > 18 else 3
        axes.figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)


def _critical_difference(axes: Axes, ranks: Ranks) -> None:
    names, values = list(ranks.table["optimizer"]), ranks.table["rank"].to_numpy(dtype=float)
    half = (len(names) + 1) // 2
    bars = cliques(values, ranks.critical_difference)
    low = 0.6 + 0.3 * len(bars)
    left, right = 1 - 0.5 * len(names), len(names) + 0.5 * len(names)
    ink: Any = {"color": "black", "solid_capstyle": "butt"}
    axes.plot([1, len(names)], [0, 0], lw=1, **ink)
    for tick in range(1, len(names) + 1):
        axes.plot([tick, tick], [0, 0.12], lw=1, **ink)
        axes.text(tick, 0.17, str(tick), ha="center", va="bottom")
    for i, (name, rank) in enumerate(zip(names, values, strict=True)):
        depth = -(low + 0.5 * (i if i < half else len(names) - 1 - i))
        end = left if i < half else right
        axes.plot([rank, rank, end], [0, depth, depth], lw=1, **ink)
        axes.text(end, depth + 0.04, f"{_label(name)} ({rank:.2f})", ha="left" if i < half else "right", va="bottom")
    for i, (first, last) in enumerate(bars):
        axes.plot([values[first] - 0.04, values[last] + 0.04], [-0.3 * (i + 1)] * 2, lw=4, **ink)
    axes.plot([1, 1 + ranks.critical_difference], [0.85, 0.85], lw=2, **ink)
    axes.text(1, 0.9, f"critical difference {ranks.critical_difference:.2f}", ha="left", va="bottom")
    axes.set_xlim(min(left, 0.9), max(right, 1.1 + ranks.critical_difference))
    axes.set_ylim(-(low + 0.5 * half) + 0.3, 1.3)
    axes.set_axis_off()
