"""The command line: parse, call, print."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sgabench.errors import InputError

if TYPE_CHECKING:
    from sgabench.merging import Merged
    from sgabench.plan import Plan

app = typer.Typer(
    name="sgabench",
    help="Which way of training leaves a network that survives pruning?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Kind(StrEnum):
    datasets = "datasets"
    models = "models"
    optimizers = "optimizers"
    pruners = "pruners"
    probes = "probes"


class ReportFormat(StrEnum):
    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    html = "html"
    latex = "latex"


class GateFormat(StrEnum):
    text = "text"
    markdown = "markdown"
    json = "json"
    junit = "junit"
    github = "github"


class Axis(StrEnum):
    ratio = "ratio"
    compression = "compression"
    macs = "macs"


class ComparisonFormat(StrEnum):
    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


class Subject(StrEnum):
    optimizers = "optimizers"


class BenchFormat(StrEnum):
    table = "table"
    markdown = "markdown"
    json = "json"


SuiteFile = Annotated[Path, typer.Argument(metavar="SUITE", help="Suite file (TOML).")]
Results = Annotated[Path, typer.Option(metavar="DIR", help="Results folder: records, weights, leaderboards.")]
DataDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", envvar="SGABENCH_DATA", help="Where data sets are. Default: data."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the suite, e.g. training.epochs=2. Repeatable."),
]
Only = Annotated[
    str | None, typer.Option(metavar="GLOB", help="Only trials (dataset/model/optimizer/seed) that match.")
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE.py", help="Python file that registers plugins. Repeatable."),
]
DEFAULT_RESULTS = Path("results")


@app.command()
def run(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    download: Annotated[bool, typer.Option(help="Fetch a data set that is not there.")] = True,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Trials at the same time.")] = 1,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
    snapshot_minutes: Annotated[
        float, typer.Option(metavar="N", min=0, help="Save a training every N minutes; 0: only when it is stopped.")
    ] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the plan, train nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but what failed.")] = False,
) -> None:
    """Run what the store does not have yet, and show the leaderboard.

    Exit code 0; 1 when a trial or a cell failed (the others still ran); 2 for bad input.
    """
    from sgabench.plan import make_plan, select
    from sgabench.report.display import failure_lines
    from sgabench.report.progress import listener, print_tables
    from sgabench.runner import Options, check, run_plan
    from sgabench.suite import load_suite

    _load_plugins(plugin)
    plugins = tuple(path.resolve() for path in plugin or ())
    options = Options(results, data_dir, download, device.value, jobs, only, plugins, snapshot_minutes)
    plan = make_plan(load_suite(suite, set_ or ()), options.data)
    if dry_run:
        check(plan, options, strict=True)
        _print_plan(select(plan, only), results)
        return
    with _stoppable(), listener(quiet) as display:
        tables = run_plan(plan, options, display)
    if not quiet:
        print_tables(tables, results / plan.suite.name)
    if len(tables.failures):
        for line in failure_lines(tables) if quiet else []:
            typer.echo(line, err=True)
        raise typer.Exit(1)


@app.command()
def tune(
    suite: SuiteFile,
    output: Annotated[Path, typer.Option(metavar="FILE", help="Write the tuned suite here (TOML).")],
    tries: Annotated[int, typer.Option(metavar="N", min=1, help="Tries of each optimizer.")] = 20,
    validation_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Training images to hold out. Default: what the suite says, else a tenth."
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Seed of the trainings and the search. Repeatable: the mean. Default: 1000."),
    ] = None,
    lr_factors: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="Learning rates searched, times the given one.")
    ] = (0.01, 10.0),
    weight_decays: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="Weight decays searched, beside 0.")
    ] = (1e-5, 0.1),
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    download: Annotated[bool, typer.Option(help="Fetch a data set that is not there.")] = True,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    set_: Set = None,
    plugin: Plugins = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but what failed.")] = False,
) -> None:
    """Tune learning rate and weight decay of each optimizer on a validation split; write a new suite.

    Exit code 0; 1 when a training failed; 2 for bad input.
    """
    from sgabench.tuning import require_extra

    require_extra()
    from sgabench.report.tuning import listener, print_tuning
    from sgabench.runner import Options
    from sgabench.suite import load_suite
    from sgabench.tuning.search import TryFailed, tune_subjects
    from sgabench.tuning.subjects import Settings, find_subjects
    from sgabench.tuning.suite_file import TunedSuite

    _load_plugins(plugin)
    loaded = load_suite(suite, set_ or ())
    settings = Settings(tries, validation_size, tuple(seed or [1000]), lr_factors, weight_decays)
    subjects = find_subjects(loaded, settings)
    target = TunedSuite(loaded, tuple(set_ or ()), output, subjects)
    target.check(force)
    _refuse_to_replace(output, [suite, *(plugin or ())], [results])
    try:
        with listener(quiet) as display:
            options = Options(results, data_dir, download, device.value)
            tuned, held_out = tune_subjects(subjects, loaded, settings, options, display)
    except KeyboardInterrupt:
        typer.echo("stopped: every finished try is stored; run the same command to go on", err=True)
        raise typer.Exit(130) from None
    except TryFailed as error:
        _stop(f"failed: {error}", 1)
    target.write(tuned, settings, held_out)
    if not quiet:
        next_command = ["sgabench", "run", str(output)]
        next_command += [part for path in plugin or () for part in ("--plugin", str(path))]
        next_command += [] if results == DEFAULT_RESULTS else ["--results", str(results)]
        next_command += [] if data_dir is None else ["--data-dir", str(data_dir)]
        print_tuning(tuned, target.untuned, output, next_command)


@app.command()
def report(
    suite: Annotated[
        Path | None, typer.Argument(metavar="[SUITE]", help="Suite file (TOML); default: all that is stored.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="How to write it.")] = ReportFormat.table,
    cells: Annotated[bool, typer.Option("--cells", help="Every cell, a row per seed, instead of means.")] = False,
    by: Annotated[
        Axis, typer.Option(help="A row per ratio asked for, or per achieved compression or multiply-adds.")
    ] = Axis.ratio,
    reference: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Compare with this optimizer. Default: the suite's first.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of to the terminal.")] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the figures, too, as PNG and SVG (needs matplotlib).")
    ] = None,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
) -> None:
    """Show the leaderboard from what is stored; JSON holds the cells and trials, too."""
    gc.disable()  # a large store makes millions of objects and no cycles; looking for these doubles the time

    from sgabench.details import load_details
    from sgabench.leaderboard import make_tables
    from sgabench.report import render
    from sgabench.store import Store

    plan = _plan(suite, results, data_dir, only, set_, plugin) if suite else None
    _require_store(results)
    with Store(results) as store:
        tables = make_tables(store, plan, reference=reference, by=by.value)
        details = load_details(store, tables) if form is ReportFormat.html or figures else None
    view = [
        part
        for name, value in (("--by", by.value), ("--reference", reference))
        if value not in (None, "ratio")
        for part in (name, value)
    ]
    commands = _commands(suite, results, only, set_, plugin, [*view, *(["--cells"] if cells else [])])
    text = render(tables, form.value, plan.suite if plan else None, cells=cells, details=details, commands=commands)
    if figures is not None and details is not None:
        from sgabench.report.static import write_figures

        write_figures(tables, details, figures)
    _write(text, output, [suite, *(plugin or ())], [results])


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Results folder: the reference.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Results folder that is compared with it.")],
    suite: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only trials and cells of this suite. Default: all.")
    ] = None,
    data_dir: DataDir = None,
    form: Annotated[ComparisonFormat, typer.Option("--format", help="How to write it.")] = ComparisonFormat.table,
    changed: Annotated[bool, typer.Option("--changed", help="Only what differs, or what one side lacks.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of to the terminal.")] = None,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
) -> None:
    """Compare two results folders (two commits, two machines), seed by seed."""
    from sgabench.compare import folder_names, read, side_by_side
    from sgabench.report.compare import render_comparison

    plan = _plan(suite, first, data_dir, only, set_, plugin) if suite else None
    names = folder_names(first, second)
    tables = read(first, plan), read(second, plan)
    text = render_comparison(side_by_side(*tables, names), names, tables, form.value, changed=changed)
    _write(text, output, [suite, *(plugin or ())], [first, second])


@app.command()
def baseline(
    suite: SuiteFile,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The baseline (JSON), to be kept with your code.")],
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Freeze what is there, though results are missing or failed.")
    ] = False,
    set_: Set = None,
    plugin: Plugins = None,
) -> None:
    """Freeze what a suite measured, for sgabench check to compare with."""
    from sgabench.gate.baseline import write_baseline
    from sgabench.gate.measured import complete, measured

    plan = _plan(suite, results, data_dir, None, set_, plugin)
    _require_store(results)
    frozen = (measured if allow_incomplete else complete)(plan, results)
    if not any(group.seeds for group in frozen.groups):
        raise InputError(f"results folder {results}: nothing of {suite} is stored; run it first")
    _refuse_to_replace(output, [suite, *(plugin or ())], [results])
    write_baseline(frozen, output)
    seeds = sorted({seed for group in frozen.groups for seed in group.seeds})
    typer.echo(f"written: {output}: {len(frozen.trials)} trials and {len(frozen.cells)} cells over {len(seeds)} seeds")


@app.command()
def check(
    suite: SuiteFile,
    baseline: Annotated[Path, typer.Option(metavar="FILE", help="What sgabench baseline wrote.")],
    results: Results = DEFAULT_RESULTS,
    run: Annotated[bool, typer.Option("--run", help="First run what the store does not have yet.")] = False,
    form: Annotated[GateFormat, typer.Option("--format", help="How to write it.")] = GateFormat.text,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of to the terminal.")] = None,
    data_dir: DataDir = None,
    download: Annotated[bool, typer.Option(help="With --run: fetch a data set that is not there.")] = True,
    device: Annotated[Device, typer.Option(help="With --run: where to compute.")] = Device.auto,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="With --run: trials at the same time.")] = 1,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
) -> None:
    """Compare what is stored with a baseline: do networks prune worse than they did?

    Where the suite has no gate table: accuracies and retention must not be worse by more than 0.5 points, size and
    multiply-adds on non-zero weights by more than 1 %, beyond the spread over seeds; sparsity not by more than
    0.5 points. Exit code 0: nothing regressed; 1: something did; 2: bad input; 3: nothing to compare, or something
    is missing.
    """
    from sgabench.gate.baseline import read_baseline
    from sgabench.gate.check import check_suites
    from sgabench.gate.measured import check_plan
    from sgabench.report.gate import render, verdict
    from sgabench.report.progress import listener
    from sgabench.runner import Options, run_plan

    whole = _plan(suite, results, data_dir, None, set_, plugin)
    if run:
        check_suites(read_baseline(baseline).suite, whole.suite.name)  # before anything is trained for it
        plugins = tuple(path.resolve() for path in plugin or ())
        with _stoppable(), listener(quiet=False) as display:
            run_plan(whole, Options(results, data_dir, download, device.value, jobs, only, plugins), display)
    _require_store(results)
    outcome = check_plan(whole, results, baseline, only)
    text = render(outcome, form.value, str(baseline))
    _write(text, output, [suite, baseline, *(plugin or ())], [results])
    if output is not None:
        typer.echo(verdict(outcome), err=True)
    raise typer.Exit(outcome.exit_code)


@app.command("list")
def list_plugins(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    filter_: Annotated[
        str | None,
        typer.Option("--filter", metavar="TEXT", help="Only names and descriptions with this text."),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """List what a suite can name: parameters with their defaults, and where it comes from."""
    from sgabench.registry import REGISTRIES
    from sgabench.report.listing import print_listing

    _load_plugins(plugin)
    registry = REGISTRIES[kind.value]
    print_listing(registry, filter_ or "")
    for problem in registry.broken.values():
        typer.echo(f"warning: {problem}", err=True)


@app.command()
def plan(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
) -> None:
    """Show every trial and cell of a suite: which are stored, which would run."""
    _print_plan(_plan(suite, results, data_dir, only, set_, plugin), results)


@app.command()
def env(
    device: Annotated[Device, typer.Option(help="The device that is described.")] = Device.auto,
) -> None:
    """Show the environment as a record would keep it (JSON)."""
    from sgabench.environment import choose_device, cores, describe_environment

    typer.echo(json.dumps(describe_environment(choose_device(device.value), cores()), indent=2))


@app.command()
def bench(
    subject: Annotated[Subject, typer.Argument(help="What to measure.")],
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A model, as in a suite. Repeatable. Default: three ResNets."),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Lay weights out in memory as a training does.")
    ] = False,
    form: Annotated[BenchFormat, typer.Option("--format", help="How to write it.")] = BenchFormat.table,
    plugin: Plugins = None,
) -> None:
    """Measure this machine: what a step of each optimizer costs, against PyTorch's fused Adam."""
    from sgabench.bench.benchmark import render
    from sgabench.environment import choose_device

    _load_plugins(plugin)
    measure = importlib.import_module(f"sgabench.bench.{subject.value}").measure
    typer.echo(render(measure(models or (), choose_device(device.value), channels_last), form.value), nl=False)


@app.command()
def doctor(
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set aside what is damaged, after a backup copy; run computes it again.")
    ] = False,
) -> None:
    """Check the store, its weights, versions, data sets and devices.

    Exit code 0; 1 when there are problems; 2 for bad input.
    """
    from sgabench.doctor import as_text, examine
    from sgabench.repair import repair as repair_folder

    if repair or results != DEFAULT_RESULTS:
        _require_store(results)
    if repair:
        typer.echo("\n".join(repair_folder(results) or ["nothing to repair"]) + "\n")
    checks = examine(results, data_dir or Path("data"))
    typer.echo(as_text(checks))
    if any(check.state == "problem" for check in checks):
        raise typer.Exit(1)


@app.command("export")
def export_archive(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive that is written.")],
    results: Results = DEFAULT_RESULTS,
    suite: Annotated[
        Path | None, typer.Option(metavar="SUITE", help="Only trials and cells of this suite. Default: all.")
    ] = None,
    weights: Annotated[bool, typer.Option(help="The trained weights, too.")] = False,
    data_dir: DataDir = None,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
) -> None:
    """Write records, and weights on request, into one portable file."""
    from sgabench.archive import export
    from sgabench.plan import keys_of

    keys = keys_of(_plan(suite, results, data_dir, only, set_, plugin)) if suite else None
    _require_store(results)
    _refuse_to_replace(file, [suite, *(plugin or ())], [results], option="")
    exported = export(file, results, keys, weights=weights)
    typer.echo(f"{file}: {exported.records} records, weights of {exported.weights} trials")
    if exported.without:
        typer.echo(f"{exported.without} trials have no weights in {results}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive that export wrote.")],
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Take the records and weights of an archive into a results folder, all or nothing.

    Exit code 0; 1 when records disagree with those that are there, which are kept; 2 for bad input.
    """
    from sgabench.archive import import_archive

    _tell_merged([(file, import_archive(file, results))])


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Results folders of other machines.")],
    results: Annotated[Path, typer.Option(metavar="DIR", help="The results folder that takes them in.")],
) -> None:
    """Take the records and weights of other results folders into one.

    Exit code 0; 1 when records disagree, of which the first is kept; 2 for bad input.
    """
    from sgabench.merging import merge as merge_folders

    _tell_merged(merge_folders(folders, results))


def _tell_merged(sources: list[tuple[Path, Merged]]) -> None:
    for source, merged in sources:
        parts = [f"{merged.new} records and the weights of {merged.weights} trials taken", f"{merged.same} were there"]
        if merged.kept:
            parts.append(f"{merged.kept} only failed there")
        if merged.conflicts:
            parts.append(f"{len(merged.conflicts)} disagree with what is here, which is kept")
        if merged.left_out:
            parts.append(f"{merged.left_out} left out, of networks that were not taken")
        typer.echo(f"{source}: {'; '.join(parts)}")
        for name in merged.conflicts:
            typer.echo(f"  disagrees: {name}")
    if any(merged.conflicts for _, merged in sources):
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a suite file, for editors."""
    from sgabench.suite import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def _load_plugins(files: list[Path] | None) -> None:
    from sgabench.registry import load_plugin_file

    for file in files or ():
        load_plugin_file(file)


def _plan(
    suite: Path,
    results: Path,
    data_dir: Path | None,
    only: str | None,
    settings: list[str] | None,
    plugins: list[Path] | None,
) -> Plan:
    from sgabench.plan import make_plan, select
    from sgabench.suite import load_suite

    _load_plugins(plugins)
    made = make_plan(load_suite(suite, settings or ()), data_dir or Path("data"))
    return select(made, only)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    from sgabench.interruption import Terminated, terminable

    try:
        with terminable():
            yield
    except (KeyboardInterrupt, Terminated) as stop:
        typer.echo("stopped: what was finished is stored; run the same command to go on", err=True)
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None


def _write(text: str, output: Path | None, sources: Sequence[Path | None], folders: Sequence[Path]) -> None:
    """Print a text, or write it to a file that is none of those it was made from."""
    from sgabench.store import write_atomically

    if output is None:
        typer.echo(text, nl=False)
        return
    _refuse_to_replace(output, sources, folders)
    try:
        if output.exists() and not output.is_file():  # a device or a pipe is written to, never replaced
            output.write_text(text, encoding="utf-8")
        else:
            write_atomically(output.resolve(), text.encode())
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror or error}") from None


def _refuse_to_replace(
    output: Path, sources: Sequence[Path | None], folders: Sequence[Path], option: str = "--output "
) -> None:
    """An output must be none of the files it is made from, and nothing that a results folder consists of."""
    target = output.resolve()
    if target in [path.resolve() for path in sources if path]:
        raise InputError(f"{option}{output}: would replace what it is made from; name another file")
    for folder in (folder.resolve() for folder in folders):
        database = target.parent == folder and target.name.startswith(("store.sqlite", "tuning.sqlite", ".lock"))
        if database or {folder / "weights", folder / "snapshots"} & {*target.parents}:
            raise InputError(f"{option}{output}: would damage the results folder; name another file")


def _commands(
    suite: Path | None,
    results: Path,
    only: str | None,
    settings: list[str] | None,
    plugins: list[Path] | None,
    view: list[str],
) -> list[str]:
    """The commands that make a report again; of paths only what means something on another machine."""

    def shown(path: Path) -> str:
        return f"{path.parent.name}/{path.name}" if path.is_absolute() else str(path)

    common = [shown(suite)] if suite else []
    common += (
        [] if results == DEFAULT_RESULTS else ["--results", results.name if results.is_absolute() else str(results)]
    )
    for name, values in (("--set", settings or ()), ("--plugin", [shown(path) for path in plugins or ()])):
        common += [part for value in values for part in (name, value)]
    common += ["--only", only] if only else []
    report = ["sgabench", "report", *common, *view, "--format", "html", "--output", "report.html"]
    return [shlex.join(["sgabench", "run", *common]), shlex.join(report)] if suite else [shlex.join(report)]


def _require_store(results: Path) -> None:
    try:
        there = results.is_dir()
    except OSError as error:
        raise InputError(f"results folder: {error.strerror or error}") from None
    if not there:
        raise InputError(f"results folder {results}: not there; run a suite first, or name another with --results")


def _print_plan(plan: Plan, results: Path) -> None:
    from sgabench.store import Store

    with Store(results) as store:
        stored = store.statuses()

    def state(key: str) -> str:
        return {"done": "stored", "diverged": "diverged"}.get(stored.get(key, ""), "to run")

    counts: dict[str, dict[str, int]] = {"trials": {}, "cells": {}}
    lines = []
    for trial in plan.trials:
        states = state(trial.key)
        counts["trials"][states] = counts["trials"].get(states, 0) + 1
        lines.append(f"{states:9} {trial.key[:12]}  {trial.name}")
        for cell in trial.cells:
            of_cell = state(cell.key) if states != "diverged" else "diverged"
            counts["cells"][of_cell] = counts["cells"].get(of_cell, 0) + 1
            lines.append(f"{of_cell:9} {cell.key[:12]}    {cell.name}")
    for name, by_state in counts.items():
        parts = ", ".join(f"{number} {state}" for state, number in sorted(by_state.items()))
        lines.append(f"{sum(by_state.values())} {name}: {parts}")
    typer.echo("\n".join(lines))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit; bad input is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character still gets the rest
    try:
        code = app(arguments, standalone_mode=False)
        if sys.stdout is not None:  # it may have been closed
            sys.stdout.flush()
    except InputError as error:
        _stop(f"error: {error}", 2)
    except BrokenPipeError:
        sys.stdout = None  # who read it has seen enough
        sys.exit(0)
    except OSError as error:
        _stop(f"error: cannot write the output: {error.strerror or error}", 2)
    except Exception as error:
        # Wrong usage, of click or of Typer's copy of it: no common class, but a common shape.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            _stop(error.format_message(), 2)
        command = getattr(getattr(error, "ctx", None), "command_path", "sgabench")
        _stop(f"error: {' '.join(error.format_message().split())}; see {command} --help", 2)
    sys.exit(code or 0)


def _stop(message: str, code: int) -> NoReturn:
    with contextlib.suppress(OSError, AttributeError):
        typer.echo(message, err=True)
    sys.exit(code)
