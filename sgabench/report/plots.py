"""The interactive figures, made with Plotly."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio

from sgabench.evidence.budgets import IS_BUDGET
from sgabench.evidence.intervals import Floats
from sgabench.evidence.ranks import Profiles, Ranks
from sgabench.report.series import (
    MEASURES,
    SYMBOLS,
    Curve,
    HeatMap,
    Line,
    Panel,
    Style,
    cliques,
    pareto_front,
)

HEIGHT = 420
LONGEST = 28  # characters of a name in a figure
AXIS_TITLES = {
    "ratio": "requested ratio",
    "compression": "compression: parameters / non-zero parameters",
    "macs": "theoretical speedup: multiply-adds / those on non-zero weights",
}
COSTS = {
    "images_per_s": "measured images/s (more is better)",
    "nonzero_params": "non-zero parameters (fewer is better)",
}


def safe(text: str) -> str:
    """Text that Plotly shows as it is: no tags, no templates."""
    return html.escape(text, quote=False).replace("%{", "%&#123;")


def short(text: str) -> str:
    """A name that fits into a legend."""
    return safe(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def templates() -> dict[str, Any]:
    """Plotly's own light and dark look, on the page's background."""
    looks = {"light": "plotly_white", "dark": "plotly_dark"}
    made = {name: pio.templates[look].to_plotly_json() for name, look in looks.items()}
    for look in made.values():
        nothing = "rgba(0,0,0,0)"
        bar = {"bgcolor": nothing, "color": "#888888", "activecolor": "#4c8dd6"}
        look["layout"] |= {"paper_bgcolor": nothing, "plot_bgcolor": nothing, "modebar": bar}
    return made


def curves(panel: Panel, looks: Mapping[str, Style]) -> dict[str, Any]:
    """Top-1 over the ratio; ``meta`` of each trace holds its x by axis, for the page's switch."""
    traces: list[Any] = []
    for curve in panel.lines:
        look = looks[curve.optimizer]
        common = {"legendgroup": safe(curve.optimizer), "showlegend": False}
        band = _band(curve)
        if band is not None:
            x, y = band
            traces.append(_trace(x, y, look, **common, fill="toself", fillcolor=_faint(look.color, 0.16), mode="none"))
            traces[-1].hoverinfo = "skip"
        if len(curve.seeds):
            x = {axis: curve.seeds[axis].to_numpy() for axis in AXIS_TITLES}
            traces.append(
                _trace(x, curve.seeds["top1"].to_numpy(), look, **common, mode="markers")
                .update(marker={"size": 5, "opacity": 0.4, "color": look.color, "symbol": look.symbol})
                .update(text=[f"seed {seed}" for seed in curve.seeds["seed"]])
                .update(hovertemplate=f"%{{x:.3g}}, %{{text}}: %{{y:.1f}} %<extra>{short(curve.optimizer)}</extra>")
            )
        line = _trace(curve.x, curve.mean, look, legendgroup=safe(curve.optimizer), mode="lines+markers")
        line.update(name=short(curve.optimizer), line={"color": look.color, "dash": look.dash, "width": 2.5})
        line.update(marker={"size": 8, "color": look.color, "symbol": look.symbol})
        line.hovertemplate = f"%{{x:.3g}}: %{{y:.1f}} %<extra>{short(curve.optimizer)}</extra>"
        traces.append(line)
    title = f"{panel.of}, times" if panel.of in IS_BUDGET else f"ratio, of {panel.of}"
    figure = _figure(traces, safe(title), "top-1, %", meta={"ratio": safe(title)})
    figure["layout"]["yaxis"] |= {"rangemode": "nonnegative"}
    return figure


def _trace(x: Mapping[str, Floats], y: Floats, look: Style, **more: Any) -> Any:
    places = {axis: _numbers(values) for axis, values in x.items()}
    return go.Scatter(x=places["ratio"], y=_numbers(y), meta=places, **more)


def _band(curve: Curve) -> tuple[dict[str, Floats], Floats] | None:
    known = ~np.isnan(curve.low)
    if not known.any():
        return None
    x = {axis: np.r_[values[known], values[known][::-1]] for axis, values in curve.x.items()}
    return x, np.r_[curve.high[known], curve.low[known][::-1]]


def pareto(panel: Panel, looks: Mapping[str, Style], cost: str) -> dict[str, Any]:
    """Top-1 over a cost, and the networks that no other beats in both."""
    every_cost = np.concatenate([cloud.cost for cloud in panel.lines])
    every_top1 = np.concatenate([cloud.top1 for cloud in panel.lines])
    front = pareto_front(every_cost, every_top1, more_is_better=cost == "images_per_s")
    symbols = pruner_symbols(panel)
    traces = [
        go.Scatter(
            x=_numbers(every_cost[front]),
            y=_numbers(every_top1[front]),
            mode="lines",
            name="Pareto front",
            line={"color": "#888888", "dash": "dot", "width": 2},
            hoverinfo="skip",
        )
    ]
    for cloud in panel.lines:
        look = looks[cloud.optimizer]
        of_points = [symbols[pruner] + "-open" * look.repeated for pruner in cloud.pruners]
        traces.append(
            go.Scatter(
                x=_numbers(cloud.cost),
                y=_numbers(cloud.top1),
                mode="markers",
                legendgroup=safe(cloud.optimizer),
                showlegend=False,
                marker={"size": 9, "color": look.color, "symbol": of_points},
                text=[safe(text) for text in cloud.texts],
                hovertemplate=f"%{{text}}<br>%{{x:.4s}}: %{{y:.1f}} %<extra>{short(cloud.optimizer)}</extra>",
            )
        )
        key = _key(cloud.optimizer, look.color, "circle" + "-open" * look.repeated)
        traces.append(key.update(legendgroup=safe(cloud.optimizer)))
    traces += [_key(pruner or "dense", "#555555", symbol) for pruner, symbol in symbols.items()]
    return _figure(traces, COSTS[cost], "top-1, %")


def _key(name: str, color: str, symbol: str) -> go.Scatter:
    """An entry of the legend without a point."""
    marker = {"size": 9, "color": color, "symbol": symbol}
    return go.Scatter(x=[None], y=[None], mode="markers", name=short(name), marker=marker, hoverinfo="skip")


def pruner_symbols(panel: Panel) -> dict[str, str]:
    """A symbol per pruner; the dense network's is a star."""
    pruners = dict.fromkeys(pruner for cloud in panel.lines for pruner in cloud.pruners if pruner)
    return {"": "star", **{pruner: SYMBOLS[i % len(SYMBOLS)] for i, pruner in enumerate(pruners)}}


def weights(panel: Panel, looks: Mapping[str, Style]) -> dict[str, Any]:
    """Percent of the weights per bin of log10 |w|."""
    traces = [_line(line, looks[line.optimizer], "|w| = 10^%{x:.2f}: %{y:.2f} %") for line in panel.lines]
    figure = _figure(traces, "|w|", "weights in each bin, %")
    ticks = range(-6, 2)
    figure["layout"]["xaxis"] |= {"tickvals": list(ticks), "ticktext": [f"10<sup>{tick}</sup>" for tick in ticks]}
    return figure


def training(panel: Panel, looks: Mapping[str, Style], measure: str) -> dict[str, Any]:
    """A measure over the epochs: mean over seeds, and their range."""
    traces: list[Any] = []
    for line in panel.lines:
        look = looks[line.optimizer]
        if line.n > 1:
            ends = go.Scatter(
                x=_numbers(np.r_[line.x, line.x[::-1]]),
                y=_numbers(np.r_[line.most, line.least[::-1]]),
                fill="toself",
                fillcolor=_faint(look.color, 0.16),
                mode="none",
                hoverinfo="skip",
                legendgroup=safe(line.optimizer),
                showlegend=False,
            )
            traces.append(ends)
        traces.append(_line(line, look, "epoch %{x}: %{y:.4g}"))
    return _figure(traces, "epoch", MEASURES[measure])


def _line(line: Any, look: Style, hover: str) -> Any:
    return go.Scatter(
        x=_numbers(line.x),
        y=_numbers(line.y),
        mode="lines+markers" if len(line.x) == 1 else "lines",
        name=short(line.optimizer),
        legendgroup=safe(line.optimizer),
        line={"color": look.color, "dash": look.dash, "width": 2.5},
        hovertemplate=f"{hover}<extra>{short(line.optimizer)}</extra>",
    )


def layers(chart: HeatMap) -> dict[str, Any]:
    """Percent of zeros per layer, ratio and optimizer."""
    ratios, optimizers = zip(*chart.columns, strict=True)
    trace = go.Heatmap(
        x=[list(ratios), [short(name) for name in optimizers]],
        y=[safe(layer) for layer in chart.layers],
        z=[_numbers(row) for row in chart.percent],
        zmin=0,
        zmax=100,
        colorscale="Viridis",
        colorbar={"title": {"text": "zeros, %", "side": "right"}, "thickness": 12},
        hovertemplate="%{y}<br>%{x}: %{z:.1f} %<extra></extra>",
        xgap=1,
    )
    figure = _figure([trace], "ratio and optimizer", "")
    figure["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category", "tickfont": {"size": 10}}
    figure["layout"]["height"] = max(HEIGHT, 150 + 16 * len(chart.layers))
    return figure


def areas(titles: Iterable[str], optimizers: Iterable[str], percent: Floats) -> dict[str, Any]:
    """One row per curve panel, one column per optimizer: instead of curves, if there are too many."""
    rows = [safe(title) for title in titles]
    trace = go.Heatmap(
        x=[short(name) for name in optimizers],
        y=rows,
        z=[_numbers(row) for row in percent],
        colorscale="Viridis",
        colorbar={"title": {"text": "mean retention, %", "side": "right"}, "thickness": 12},
        hovertemplate="%{y}<br>%{x}: %{z:.1f} %<extra></extra>",
    )
    figure = _figure([trace], "", "")
    figure["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category", "tickfont": {"size": 9}}
    figure["layout"]["height"] = min(2400, max(HEIGHT, 120 + 11 * len(rows)))
    return figure


def profiles(found: Profiles, looks: Mapping[str, Style]) -> dict[str, Any]:
    """The share of runs at or above each accuracy, with its interval."""
    traces: list[Any] = []
    x = 100 * found.levels
    for i, name in enumerate(found.optimizers):
        look = looks[name]
        group = {"legendgroup": safe(name), "hoverinfo": "skip", "showlegend": False}
        ends = {
            "x": _numbers(np.r_[x, x[::-1]]),
            "y": _numbers(100 * np.r_[found.share_high[i], found.share_low[i][::-1]]),
        }
        traces.append(go.Scatter(**ends, fill="toself", fillcolor=_faint(look.color, 0.12), mode="none", **group))
        line = Line(name, x, 100 * found.share[i], x, x, found.runs)
        traces.append(_line(line, look, "at least %{x:.0f} %: %{y:.1f} % of runs"))
    return _figure(traces, "pruned top-1 of a run, mean over prunings, %", "runs with at least that, %")


def critical_difference(ranks: Ranks) -> dict[str, Any]:
    """Demšar's diagram: an axis of mean ranks, a name for each, bars over those that do not differ significantly."""
    names, values = list(ranks.table["optimizer"]), ranks.table["rank"].to_numpy(dtype=float)
    half = (len(names) + 1) // 2
    bars = cliques(values, ranks.critical_difference)
    low = 0.6 + 0.3 * len(bars)
    room = 0.3 + 0.5 * (len(names) - 1)  # for names on a phone
    left, right = 1 - room, len(names) + room
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []

    def segment(x0: float, y0: float, x1: float, y1: float, width: float) -> None:
        shapes.append({"type": "line", "x0": x0, "y0": y0, "x1": x1, "y1": y1, "line": {"width": width}})

    for i, (name, rank) in enumerate(zip(names, values, strict=True)):
        best = i < half
        depth = -(low + 0.5 * (i if best else len(names) - 1 - i))
        end = left if best else right
        segment(rank, 0, rank, depth, 1.5)
        segment(rank, depth, end, depth, 1.5)
        anchor = "left" if best else "right"
        text = f"{short(name)} ({rank:.2f})"
        notes.append({"x": end, "y": depth, "text": text, "xanchor": anchor, "yanchor": "bottom", "showarrow": False})
    for i, (first, last) in enumerate(bars):
        segment(values[first] - 0.04, -0.3 * (i + 1), values[last] + 0.04, -0.3 * (i + 1), 6)
    segment(1, 0.75, 1 + ranks.critical_difference, 0.75, 3)
    text = f"critical difference {ranks.critical_difference:.2f}"
    notes.append({"x": 1, "y": 0.8, "text": text, "xanchor": "left", "yanchor": "bottom", "showarrow": False})
    figure = _figure([go.Scatter(x=list(values), y=[0] * len(names), mode="markers", hoverinfo="skip")], "", "")
    bottom = -(low + 0.5 * half) + 0.3
    figure["layout"] |= {"shapes": shapes, "annotations": notes, "showlegend": False}
    figure["layout"]["height"] = int(65 + 60 * (1.3 - bottom))
    figure["layout"]["xaxis"] |= {
        "range": [min(left, 0.9), max(right, 1.1 + ranks.critical_difference)],
        "tickvals": list(range(1, len(names) + 1)),
        "side": "top",
        "showgrid": False,
        "zeroline": False,
    }
    figure["layout"]["yaxis"] |= {"visible": False, "range": [bottom, 1.3]}
    figure["layout"]["margin"] |= {"l": 5, "r": 5, "t": 60, "b": 5}
    return figure


def _figure(traces: list[Any], x: str, y: str, **layout: Any) -> dict[str, Any]:
    figure = go.Figure(data=traces)
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 50, "r": 15, "t": 32, "b": 50},
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0},
        xaxis={"title": {"text": x}, "automargin": True},
        yaxis={"title": {"text": y}, "automargin": True},
        hoverlabel={"namelength": -1},
        **layout,
    )
    content: dict[str, Any] = figure.to_plotly_json()
    content["layout"].pop("template", None)
    return content


def _numbers(values: Any) -> list[float | None]:
    """Five digits, more than a figure shows; None for NaN, which JSON does not have."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in np.asarray(values, dtype=float)]


def _faint(color: str, opacity: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
