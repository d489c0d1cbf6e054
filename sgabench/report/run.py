"""A run, and the leaderboard that it writes into its results folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sgabench.plugins.registry import load_plugin_file
from sgabench.report.commands import commands
from sgabench.report.folder import prepare_folder
from sgabench.running.executors.quiet import Quiet
from sgabench.running.listening import Listener
from sgabench.running.options import SNAPSHOT_MINUTES, Options
from sgabench.running.resources import cluster_request
from sgabench.running.rounds import note_look, run_rounds
from sgabench.running.runner import check, chosen, run_plan
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import Suite, load_suite
from sgabench.system.collecting import uncollected
from sgabench.system.threads import wait_politely

if TYPE_CHECKING:
    from sgabench.evidence.leaderboard import Tables


def run(
    suite: Suite | str | Path,
    *,
    results: str | Path = "results",
    data_dir: str | Path | None = None,
    download: bool = True,
    device: str = "auto",
    jobs: int | Literal["auto"] = 1,
    only: str | None = None,
    plugins: Sequence[str | Path] = (),
    snapshot_minutes: float = SNAPSHOT_MINUTES,
    retry_failed: bool = False,
    trial_timeout: float | None = None,
    shard: tuple[int, int] | None = None,
    storage: str | None = None,
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
    trial_cpus: int | None = None,
    trial_gpus: float | None = None,
    until_decided: bool = False,
) -> Tables:
    """Run what the store does not have yet, and return the tables of the whole suite.

    Args:
        suite: a suite, or the path of its file.
        results: folder of the store.
        data_dir: folder of the data sets; default: ``SGABENCH_DATA``, else ``data``.
        download: fetch data sets that are missing.
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: trials at the same time, in processes of their own.
        only: glob over trial names (dataset/model/optimizer/seed).
        plugins: plugin files to load first.
        snapshot_minutes: between two snapshots of a training; 0: only when the process is asked to stop.
        retry_failed: run only what is recorded as failed.
        trial_timeout: minutes; a trial that takes longer fails, and all run in processes of their own.
        shard: number of a part of the trials, counted from 1, and number of parts.
        storage: folder or fsspec URL of weights and snapshots; default: the results folder.
        executor: ``ray``: trials run as Ray tasks, each with its CPUs (threads) and GPUs.
        address: of a Ray cluster; default: ``RAY_ADDRESS``, else one on this machine.
        trial_cpus: default: 1.
        trial_gpus: default: 0, or 1 with device ``cuda``; with a fraction of 1, trials share a GPU.
        until_decided: add seeds in rounds, only for optimizers whose question is open.

    Raises:
        InputError: a problem with the suite, the data or the results folder.
    """
    for plugin in plugins:
        load_plugin_file(Path(plugin))
    options = Options(
        Path(results),
        None if data_dir is None else Path(data_dir),
        download,
        device,
        jobs,
        only,
        tuple(Path(plugin).resolve() for plugin in plugins),
        snapshot_minutes,
        retry_failed,
        trial_timeout,
        storage,
        shard,
        cluster_request(executor, device, jobs, address, trial_cpus, trial_gpus),
    )
    wait_politely()
    checked = suite if isinstance(suite, Suite) else load_suite(suite)
    return run_and_write(make_plan(checked, options.data), options, Listener(), until_decided=until_decided)


def run_and_write(plan: Plan, options: Options, listener: Listener, *, until_decided: bool = False) -> Tables:
    """Run the part of a plan that the store lacks, and write the leaderboard of the whole plan.

    Args:
        plan: the whole plan; the options choose a part.
        options: of the run.
        listener: receives the progress.
        until_decided: add seeds in rounds, as a suite with a range of seeds does by itself.

    Returns:
        The tables of what ``only`` and ``shard`` select, from all that is stored.

    Raises:
        InputError: bad input, found before the first trial.
    """
    if until_decided or plan.suite.rounds is not None:
        run_rounds(plan, options, lambda part: _run(part, options, listener))
    else:
        _run(plan, options, listener)
        note_look(plan, options)
    with Store(options.results) as store, Quiet(options.results).busy(), uncollected():
        # Imported after the trainings, which need neither pandas nor SciPy and so begin earlier.
        from sgabench.evidence.leaderboard import make_tables
        from sgabench.report.formats import write_leaderboard

        tables = make_tables(store, plan)
        made_by = commands(plan.suite, options.results, options.plugins)
        write_leaderboard(tables, prepare_folder(options.results / plan.suite.folder), plan.suite, made_by)
        return tables if (part := chosen(plan, options)) == plan else make_tables(store, part)


def _run(plan: Plan, options: Options, listener: Listener) -> None:
    check(plan, options)
    with Store(options.results, create=True) as store, store.sharing():
        prepare_folder(options.results / plan.suite.folder)
        run_plan(plan, store, options, listener)
