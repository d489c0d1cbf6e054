"""The regression gate: baseline and check."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sgabench.cli.app import app
from sgabench.cli.common import confirm_run, plan_of, require_store, stoppable
from sgabench.cli.options import (
    DEFAULT_RESULTS,
    PRECISION,
    DataDir,
    Device,
    InPrecision,
    Jobs,
    Only,
    Plugins,
    Precision,
    Results,
    Set,
    SuiteFile,
    Yes,
)
from sgabench.cli.outputs import Force, prepare_output, write
from sgabench.errors import InputError, counted
from sgabench.system.collecting import uncollected


class GateFormat(StrEnum):
    text = "text"
    markdown = "markdown"
    json = "json"
    junit = "junit"
    github = "github"


@app.command()
@uncollected()
def baseline(
    suite: SuiteFile,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The baseline (JSON), to keep with your code.")],
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Freeze what is there, even if results are missing or failed.")
    ] = False,
    set_: Set = None,
    plugin: Plugins = None,
    force: Force = False,
) -> None:
    """Freeze a suite's results, for sgabench check to compare with."""
    from sgabench.evidence.revisions import enumerated
    from sgabench.gate.baseline import write_baseline
    from sgabench.gate.check import hardly_above_chance
    from sgabench.gate.measured import complete, measured

    require_store(results)
    prepare_output(output, [suite, *(plugin or ())], [results], replace=force)
    plan = plan_of(suite, results, data_dir, None, set_, plugin)
    frozen = (measured if allow_incomplete else complete)(plan, results)
    if not any(group.seeds for group in frozen.groups):
        raise InputError(f"results folder {results}: nothing of {suite} is stored; run it first")
    write_baseline(frozen, output)
    seeds = {seed for group in frozen.groups for seed in group.seeds}
    parts = counted(len(frozen.trials), "trial"), counted(len(frozen.cells), "cell"), counted(len(seeds), "seed")
    typer.echo(f"written: {output}: {parts[0]} and {parts[1]} over {parts[2]}")
    if silent := hardly_above_chance(frozen):
        typer.echo(f"note: hardly above chance, so a gate cannot see them get worse: {enumerated(silent)}", err=True)


@app.command()
def check(
    suite: SuiteFile,
    baseline: Annotated[Path, typer.Option(metavar="FILE", help="What sgabench baseline wrote.")],
    results: Results = DEFAULT_RESULTS,
    run: Annotated[bool, typer.Option("--run", help="First run what is not stored yet.")] = False,
    form: Annotated[GateFormat, typer.Option("--format", help="Output format.")] = GateFormat.text,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of to the terminal.")] = None,
    data_dir: DataDir = None,
    download: Annotated[bool, typer.Option(help="With --run: download a missing data set.")] = True,
    device: Annotated[Device, typer.Option(help="With --run: where to compute.")] = Device.auto,
    precision: InPrecision = Precision.auto,
    jobs: Jobs = 1,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
    yes: Yes = False,
) -> None:
    """Compare what is stored with a baseline: do networks prune worse than before?

    Where the suite has no gate table: no accuracy may be shown worse by more than 1 point, or drop by more than 10
    points, or collapse in more seeds; and it must be shown that it is not worse. Size and multiply-adds on non-zero
    weights may not grow by more than 1 %, sparsity not fall by more than 0.5 points. Exit code 0: nothing is worse;
    1: something is; 2: bad input; 3: neither is shown, there is nothing to compare, or something is missing.
    """
    from sgabench.gate.measured import check_plan
    from sgabench.report.gate import render, verdict
    from sgabench.report.progress import listener
    from sgabench.report.run import run_and_write
    from sgabench.running.options import Options
    from sgabench.suite.plan import select

    if not run:
        require_store(results)
    prepare_output(output, [suite, baseline, *(plugin or ())], [results])
    os.environ[PRECISION] = precision.value
    whole = plan_of(suite, results, data_dir, None, set_, plugin)
    if run:
        check_plan(whole, results, baseline, only)  # what it refuses, it refuses before anything is trained for it
        confirm_run(select(whole, only), results, yes)
        plugins = tuple(path.resolve() for path in plugin or ())
        with stoppable(), listener(quiet=False) as display:
            run_and_write(whole, Options(results, data_dir, download, device.value, jobs, only, plugins), display)
    with uncollected():
        outcome = check_plan(whole, results, baseline, only)
        text = render(outcome, form.value, str(baseline))
    write(text, output)
    if output is not None:
        typer.echo(verdict(outcome), err=True)
    raise typer.Exit(outcome.exit_code)
