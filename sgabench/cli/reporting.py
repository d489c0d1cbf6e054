"""Commands that show what is stored: report and compare."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sgabench.cli.app import app
from sgabench.cli.common import plan_of, refuse_file, require_store
from sgabench.cli.options import DEFAULT_RESULTS, DataDir, Only, Plugins, Results, Set
from sgabench.cli.outputs import prepare_figures, prepare_output, write
from sgabench.errors import InputError
from sgabench.system.collecting import uncollected

DEFAULTS = (("--by", "ratio"), ("--pairs", "reference"))  # defaults


class ReportFormat(StrEnum):
    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    html = "html"
    latex = "latex"


class Axis(StrEnum):
    ratio = "ratio"
    compression = "compression"
    macs = "macs"
    passes = "passes"
    train_seconds = "train-seconds"


class PairsOf(StrEnum):
    reference = "reference"
    all = "all"


class ComparisonFormat(StrEnum):
    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


@app.command()
@uncollected()
def report(
    suite: Annotated[
        Path | None, typer.Argument(metavar="[SUITE]", help="Suite file (TOML); default: everything stored.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="Output format.")] = ReportFormat.table,
    cells: Annotated[bool, typer.Option("--cells", help="Every cell, a row per seed, instead of means.")] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Zeros and channels of every layer instead of the leaderboard.")
    ] = False,
    probes: Annotated[bool, typer.Option("--probes", help="What probes found instead of the leaderboard.")] = False,
    by: Annotated[
        Axis,
        typer.Option(
            help="A row per requested ratio; or per achieved compression or multiply-adds; or per ratio, where "
            "trainings took equally many passes or seconds."
        ),
    ] = Axis.ratio,
    reference: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Compare with this optimizer. Default: the suite's first.")
    ] = None,
    pairs: Annotated[
        PairsOf, typer.Option(help="Compare each optimizer with the reference, or all pairs, which widens intervals.")
    ] = PairsOf.reference,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of to the terminal.")] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the figures, as PNG and SVG (needs matplotlib).")
    ] = None,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
) -> None:
    """Show the leaderboard of what is stored; JSON also has the cells and trials."""
    from sgabench.evidence.details import load_details
    from sgabench.evidence.layers import layer_table
    from sgabench.evidence.leaderboard import make_tables
    from sgabench.evidence.revisions import earlier_records
    from sgabench.report.commands import commands
    from sgabench.report.display import warnings
    from sgabench.report.formats import render
    from sgabench.report.lists import render_list
    from sgabench.report.rows import LAYERS, PROBES, layers_as_text, probes_as_text
    from sgabench.store.store import Store

    instead = [f"--{name}" for name, on in (("cells", cells), ("layers", layers), ("probes", probes)) if on]
    if len(instead) > 1:
        raise InputError(f"{' and '.join(instead)}: each is shown instead of the leaderboard; give only one")
    if form is ReportFormat.html and (layers or probes):
        raise InputError(f"{instead[0]}: the page has layers and probes in any case; leave it out, or the format")
    require_store(results)
    prepare_output(output, [suite, *(plugin or ())], [results])
    prepare_figures(figures)
    plan = plan_of(suite, results, data_dir, only, set_, plugin) if suite else None
    with Store(results) as store:
        tables = make_tables(store, plan, reference=reference, by=by.value, pairs=pairs.value)
        if plan is not None and (tables.trials["status"] == "missing").all():
            notes = "".join(f"; {line}" for line in earlier_records(store, plan))
            raise InputError(
                f"results folder {results}: nothing of {suite} is stored here{notes}; run it first, or leave the suite "
                "out to see everything stored"
            )
        of_layers = layer_table(store, tables) if layers else None
        details = load_details(store, tables) if form is ReportFormat.html or figures else None
    view = [
        part
        for name, value in (("--by", by.value), ("--reference", reference), ("--pairs", pairs.value))
        if (name, value) not in DEFAULTS and value is not None
        for part in (name, value)
    ]
    view += [*(["--cells"] if cells else []), "--format", form.value]
    view += ["--output", "report.html"] if form is ReportFormat.html else []
    if form is ReportFormat.csv:  # which has no place for words
        for line in warnings(tables):
            typer.echo(line, err=True)
    if of_layers is not None:
        text = render_list(of_layers, layers_as_text(of_layers, tables.arm), form.value, LAYERS)
    elif probes and tables.probes is not None:
        text = render_list(tables.probes, probes_as_text(tables.probes, tables.arm), form.value, PROBES)
    else:
        about = plan.suite if plan else None
        made_by = commands(about, results, plugin or (), only, view)
        text = render(tables, form.value, about, cells=cells, details=details, commands=made_by)
    if figures is not None and details is not None:
        from sgabench.report.static import write_figures

        write_figures(tables, details, figures)
    write(text, output)


@app.command()
@uncollected()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Results folder: the reference.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Results folder to compare with it.")],
    suite: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only trials and cells of this suite. Default: all.")
    ] = None,
    data_dir: DataDir = None,
    form: Annotated[ComparisonFormat, typer.Option("--format", help="Output format.")] = ComparisonFormat.table,
    changed: Annotated[bool, typer.Option("--changed", help="Only what differs, or what one side lacks.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of to the terminal.")] = None,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
) -> None:
    """Compare two results folders (two commits, two machines), seed by seed."""
    from sgabench.evidence.folders import folder_names, read, side_by_side
    from sgabench.report.compare import render_comparison

    refuse_file(first)
    refuse_file(second)
    prepare_output(output, [suite, *(plugin or ())], [first, second])
    plan = plan_of(suite, first, data_dir, only, set_, plugin) if suite else None
    names = folder_names(first, second)
    tables = read(first, plan), read(second, plan)
    text = render_comparison(side_by_side(*tables, names), names, tables, form.value, changed=changed)
    write(text, output)
