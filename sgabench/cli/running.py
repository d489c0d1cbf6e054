"""Commands that train: run and tune, and plan, which shows what run would do."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgabench.cli.app import app, stop
from sgabench.cli.common import confirm, confirm_run, load_plugins, plan_of, refuse_file, require_store, stoppable
from sgabench.cli.options import (
    DEFAULT_RESULTS,
    PRECISION,
    Address,
    DataDir,
    Device,
    Executor,
    InPrecision,
    Jobs,
    Only,
    Plugins,
    Precision,
    Results,
    Retry,
    RunOn,
    Set,
    Shard,
    StorageUrl,
    SuiteFile,
    TrialCpus,
    TrialGpus,
    Yes,
)
from sgabench.cli.outputs import Force, prepare_output, write
from sgabench.errors import InputError, counted, suggestion
from sgabench.system.collecting import uncollected

if TYPE_CHECKING:
    from sgabench.evidence.looks import Looks
    from sgabench.store.store import Store
    from sgabench.suite.plan import Plan

MOST_LOOKED_AT = 500  # trials whose stored spread plan uses: more would take seconds


@app.command()
def run(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    download: Annotated[bool, typer.Option(help="Download a missing data set.")] = True,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    precision: InPrecision = Precision.auto,
    jobs: Jobs = 1,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
    snapshot_minutes: Annotated[
        float, typer.Option(metavar="N", min=0, help="Save a training every N minutes; 0: only when it is stopped.")
    ] = 5,
    trial_timeout: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="Stop a trial that takes longer; it counts as failed. Default: no limit."),
    ] = None,
    shard: Shard = None,
    executor: RunOn = Executor.local,
    address: Address = None,
    trial_cpus: TrialCpus = None,
    trial_gpus: TrialGpus = None,
    storage: StorageUrl = None,
    retry: Annotated[Retry | None, typer.Option(help="Run only what is recorded as failed.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the plan, train nothing.")] = False,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Add seeds in rounds, only where they can still decide; planned looks share the error rate.",
        ),
    ] = False,
    yes: Yes = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but failures.")] = False,
) -> None:
    """Run what is not stored yet, and show the leaderboard.

    Several runs can share a results folder: each trial is run by one of them.
    Exit code 0; 1 when a trial or a cell failed (the others still ran); 2 for bad input.
    """
    with uncollected():
        from sgabench.report.progress import listener, print_tables
        from sgabench.report.run import run_and_write
        from sgabench.running.options import Options
        from sgabench.running.resources import cluster_request
        from sgabench.running.runner import check, chosen, to_run
        from sgabench.suite.plan import make_plan
        from sgabench.suite.resolving import load_suite
        from sgabench.suite.work import NOTHING_TO_DO

    os.environ[PRECISION] = precision.value  # workers have it, too
    refuse_file(results)
    load_plugins(plugin)
    plugins = tuple(path.resolve() for path in plugin or ())
    failed_only = retry is not None
    cluster = cluster_request(executor.value, device.value, jobs, address, trial_cpus, trial_gpus)
    run_options = (device.value, jobs, only, plugins, snapshot_minutes, failed_only, trial_timeout)
    options = Options(results, data_dir, download, *run_options, storage, shard, cluster)
    plan = make_plan(load_suite(suite, set_ or ()), options.data)
    idle = NOTHING_TO_DO
    if failed_only:
        require_store(results)
        idle = "nothing to retry: no trial, cell or probe of this suite is recorded as failed"
    if dry_run:
        from sgabench.store.store import Store

        check(plan, options, strict=True)
        if failed_only and not to_run(plan, options).trials and not quiet:
            typer.echo(idle, err=True)
        with Store(results) as store:
            _print_plan(to_run(plan, options) if failed_only else chosen(plan, options), store, store.statuses())
        return
    confirm_run(to_run(plan, options) if failed_only else chosen(plan, options), results, yes)
    with stoppable(), listener(quiet, idle) as display:
        tables = run_and_write(plan, options, display, until_decided=until_decided)
    if not quiet:
        print_tables(tables, results / plan.suite.folder)
    if len(tables.failures):
        from sgabench.report.display import failure_lines

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
        tuple[float, float],
        typer.Option(metavar="LOW HIGH", help="Learning rates to search, as multiples of the given one."),
    ] = (0.01, 10.0),
    weight_decays: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="Weight decays to search, besides 0.")
    ] = (1e-5, 0.1),
    objective: Annotated[
        str, typer.Option(metavar="dense|pruned@RATIO", help="Judge tries dense, or after magnitude pruning.")
    ] = "dense",
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    download: Annotated[bool, typer.Option(help="Download a missing data set.")] = True,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    precision: InPrecision = Precision.auto,
    set_: Set = None,
    plugin: Plugins = None,
    force: Force = False,
    yes: Yes = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but failures.")] = False,
) -> None:
    """Tune learning rate and weight decay of each optimizer on a validation split; write a new suite.

    Exit code 0; 1 when a training failed; 2 for bad input.
    """
    from sgabench.tuning import require_extra

    require_extra()
    from sgabench.report.tuning import listener, print_tuning
    from sgabench.running.options import Options
    from sgabench.suite.limits import ASK_ABOVE
    from sgabench.suite.resolving import load_suite
    from sgabench.system.interruption import ignore_ctrl_c
    from sgabench.tuning.objective import Objective
    from sgabench.tuning.search import TryFailed, tune_subjects
    from sgabench.tuning.subjects import Settings, find_subjects
    from sgabench.tuning.suite_file import TunedSuite

    prepare_output(output, [suite, *(plugin or ())], [results], replace=force)
    judged = Objective.parse(objective)
    os.environ[PRECISION] = precision.value
    load_plugins(plugin)
    loaded = load_suite(suite, set_ or ())
    settings = Settings(tries, validation_size, tuple(seed or [1000]), lr_factors, weight_decays, judged)
    subjects = find_subjects(loaded, settings)
    target = TunedSuite(loaded, tuple(set_ or ()), output, subjects)
    target.check()
    trainings = len(subjects) * len(loaded.datasets) * len(loaded.models) * len(settings.seeds) * tries
    if trainings > ASK_ABOVE and not yes:
        confirm(
            f"{suite}: up to {trainings} trainings ({len(subjects)} optimizers with {tries} tries each) would be run"
        )
    try:
        with listener(quiet) as display:
            options = Options(results, data_dir, download, device.value)
            tuned, held_out = tune_subjects(subjects, loaded, settings, options, display)
    except KeyboardInterrupt:
        ignore_ctrl_c()
        typer.echo("stopped: every finished try is stored; run the same command to continue", err=True)
        raise typer.Exit(130) from None
    except TryFailed as error:
        stop(f"failed: {error}", 1)
    target.write(tuned, settings, held_out)
    if not quiet:
        next_command = ["sgabench", "run", str(output)]
        next_command += [part for path in plugin or () for part in ("--plugin", str(path))]
        next_command += [] if results == DEFAULT_RESULTS else ["--results", str(results)]
        next_command += [] if data_dir is None else ["--data-dir", str(data_dir)]
        print_tuning(tuned, target.untuned, output, next_command, judged)


@app.command()
def init(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The suite to start from.")] = "quickstart",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: NAME.toml in this folder.")] = None,
    force: Force = False,
) -> None:
    """Write a suite that comes with sgabench into this folder, to start from."""
    from sgabench.suite.shipped import shipped_suites

    suites = shipped_suites()
    if name not in suites:
        raise InputError(f"{name}: sgabench has no such suite{suggestion(name, suites)}")
    target = output or Path(f"{Path(name).name}.toml")
    prepare_output(target, [], [], replace=force, option="--output " if output else "")
    write(suites[name].read_text(encoding="utf-8"), target)
    typer.echo(f"written: {target}; change it, then: sgabench run {target}")


@app.command()
@uncollected()
def plan(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
) -> None:
    """Show every trial and cell of a suite: which are stored, which would run, which failed and would run again."""
    from sgabench.evidence.looks import looks_of
    from sgabench.store.store import Store

    made = plan_of(suite, results, data_dir, only, set_, plugin)
    looks = looks_of(results, made.suite)
    part = looks.restrict(made, coming=True) if looks and looks.planned else made
    with Store(results) as store:
        stored = store.statuses()
        _print_plan(part, store, stored)
        if looks and looks.planned:
            typer.echo(f"looks at {', '.join(map(str, looks.planned))} seeds; {len(looks.taken)} were taken")
        typer.echo(_foresight(made, store, stored, looks))


def _foresight(plan: Plan, store: Store, stored: Mapping[str, str], looks: Looks | None) -> str:
    """The differences that the suite can find, from its stored results if there are enough."""
    from sgabench.evidence.foresight import foresight

    tables = None
    if len(plan.trials) <= MOST_LOOKED_AT and any(trial.key in stored for trial in plan.trials):
        from sgabench.evidence.leaderboard import make_tables

        tables = make_tables(store, plan)
    if looks is None or not looks.planned:
        return foresight(plan, tables)
    coming = looks.planned[min(len(looks.taken), len(looks.planned) - 1)]
    return foresight(plan, tables, coming, looks.share)


def _print_plan(plan: Plan, store: Store, stored: Mapping[str, str]) -> None:
    from sgabench.evidence.revisions import earlier_records
    from sgabench.report.known import known_lines
    from sgabench.suite.plan import left_out, remaining
    from sgabench.suite.work import NOTHING_TO_DO, work_of

    state = {key: "stored" if status == "done" else status for key, status in stored.items()}
    counts: dict[str, Counter[str]] = {"trial": Counter(), "cell": Counter()}
    lines = []
    for trial in plan.trials:
        of_trial = state.get(trial.key, "to run")
        lines.append(f"{of_trial:9} {trial.key[:12]}  {trial.name}")
        of_cells = [of_trial if of_trial == "diverged" else state.get(cell.key, "to run") for cell in trial.cells]
        lines += [f"{of:9} {cell.key[:12]}    {cell.name}" for of, cell in zip(of_cells, trial.cells, strict=True)]
        counts["trial"].update([of_trial])
        counts["cell"].update(of_cells)
    for name, by_state in counts.items():
        parts = ", ".join(f"{number} {state}" for state, number in sorted(by_state.items()))
        lines.append(f"{counted(sum(by_state.values()), name)}: {parts}")
    work = work_of(remaining(plan, stored), stored)
    left = [f"left to run: {work}", work.images] if work.any else [NOTHING_TO_DO]
    lines.append("; ".join(filter(None, left)))
    lines += [*earlier_records(store, plan), *known_lines(plan.suite)]
    warnings = (
        left_out(trial.dataset, size, trial.optimizer.settings["training"]["batch_size"])
        for trial in plan.trials
        if (size := trial.dataset.settings["train_size"]) and stored.get(trial.key) != "done"
    )  # without train_size, only the data says how many
    lines += dict.fromkeys(f"warning: {line}" for line in warnings if line)
    typer.echo("\n".join(lines))
