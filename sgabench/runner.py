"""Walks a plan: runs what the store does not have yet, and stores what comes out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sgabench.environment import choose_device, cores, describe_environment
from sgabench.errors import InputError
from sgabench.executors.local import Finished, WorkerDied, run_here, run_in_processes
from sgabench.leaderboard import Tables, make_tables
from sgabench.plan import Plan, TrialPlan, make_plan, remaining, select
from sgabench.registry import load_plugin_file
from sgabench.report import prepare_folder, write_leaderboard
from sgabench.store import Record, Store
from sgabench.suite import Suite, load_suite

if TYPE_CHECKING:
    from sgabench.training import Progress
    from sgabench.trial import Task


SNAPSHOT_MINUTES = 5.0


@dataclass(frozen=True)
class Options:
    """How to run a suite; nothing here enters a key.

    Attributes:
        results: folder of the store.
        data_dir: where data sets are looked for; default: ``SGABENCH_DATA``, else ``data``.
        download: fetch a data set that is not there.
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: trials at the same time.
        only: glob over trial names.
        plugins: plugin files, which every worker loads.
        snapshot_minutes: between two snapshots of a training; 0: only when the process is asked to stop.
    """

    results: Path = Path("results")
    data_dir: Path | None = None
    download: bool = True
    device: str = "auto"
    jobs: int = 1
    only: str | None = None
    plugins: tuple[Path, ...] = field(default=())
    snapshot_minutes: float = SNAPSHOT_MINUTES

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.data_dir or Path(os.environ.get("SGABENCH_DATA") or "data")


class Listener(Protocol):
    """Is told how a run goes."""

    def started(self, trials: int, cells: int, device: str) -> None:
        """Something is left to do: so many trials, with so many cells."""

    def progressed(self, worker: int, trial: TrialPlan, progress: Progress) -> None:
        """A training goes on."""

    def stored(self, worker: int, trial: TrialPlan, record: Record) -> None:
        """A record is on disk."""

    def finished(self, worker: int, trial: TrialPlan) -> None:
        """A trial is through, whatever came of it."""


class Silent:
    """A listener that says nothing."""

    def started(self, trials: int, cells: int, device: str) -> None:
        """Say nothing."""

    def progressed(self, worker: int, trial: TrialPlan, progress: Progress) -> None:
        """Say nothing."""

    def stored(self, worker: int, trial: TrialPlan, record: Record) -> None:
        """Say nothing."""

    def finished(self, worker: int, trial: TrialPlan) -> None:
        """Say nothing."""


def run(
    suite: Suite | str | Path,
    *,
    results: str | Path = "results",
    data_dir: str | Path | None = None,
    download: bool = True,
    device: str = "auto",
    jobs: int = 1,
    only: str | None = None,
    plugins: Sequence[str | Path] = (),
    snapshot_minutes: float = SNAPSHOT_MINUTES,
) -> Tables:
    """Run what the store does not have yet, and return the tables of the whole suite.

    Args:
        suite: a suite, or the path of its file.
        results: folder of the store.
        data_dir: where data sets are looked for; default: ``SGABENCH_DATA``, else ``data``.
        download: fetch a data set that is not there.
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: trials at the same time, in processes of their own.
        only: glob over trial names (dataset/model/optimizer/seed).
        plugins: plugin files to load first.
        snapshot_minutes: between two snapshots of a training; 0: only when the process is asked to stop.

    Raises:
        InputError: anything about the suite, the data or the results folder that the user can mend.
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
    )
    checked = suite if isinstance(suite, Suite) else load_suite(suite)
    return run_plan(make_plan(checked, options.data), options, Silent())


def run_plan(plan: Plan, options: Options, listener: Listener) -> Tables:
    """Run what the store does not have of a plan, and write the leaderboard of the whole plan.

    Returns:
        The tables of what ``only`` selects, from all that is stored.

    Raises:
        InputError: bad input, found before the first trial.
    """
    check(plan, options)
    with Store(options.results, create=True) as store, store.writing():
        folder = prepare_folder(options.results / plan.suite.name)
        selected = select(plan, options.only)
        left = remaining(selected, store.statuses())
        if left:
            _execute(_tasks(left, plan, store, options), store, options, listener)
        tables = make_tables(store, plan)
        write_leaderboard(tables, folder, plan.suite)
        return tables if options.only is None else make_tables(store, selected)


def check(plan: Plan, options: Options, *, strict: bool = False) -> None:
    """Build everything that is left to run once, without training or writing anything.

    Raises:
        InputError: what `run_plan` would refuse; if strict, also what would make a trial fail at once.
    """
    if not isinstance(options.jobs, int) or options.jobs < 1:
        raise InputError(f"--jobs {options.jobs}: must be a whole number, at least 1")
    if not options.snapshot_minutes >= 0:
        raise InputError(f"--snapshot-minutes {options.snapshot_minutes}: must be 0 or more")
    with Store(options.results) as store:
        left = remaining(select(plan, options.only), store.statuses())
        if left:
            from sgabench.preflight import preflight

            preflight(_tasks(left, plan, store, options), strict=strict)


def _tasks(left: Sequence[TrialPlan], plan: Plan, store: Store, options: Options) -> list[Task]:
    from sgabench.trial import Task

    device = choose_device(options.device)
    threads = max(1, cores() // options.jobs)  # not of what is left: a run that goes on must give the same bits
    trained = {r.key: r for r in store.records("trial", [t.key for t in left]) if r.status == "done"}
    return [
        Task(
            trial,
            trained.get(trial.key),
            plan.suite.measurement,
            options.results,
            options.data,
            options.download,
            device,
            threads,
            60 * options.snapshot_minutes,
        )
        for trial in left
    ]


def _execute(tasks: list[Task], store: Store, options: Options, listener: Listener) -> None:
    device, threads = tasks[0].device, tasks[0].threads
    listener.started(len(tasks), sum(len(task.trial.cells) for task in tasks), device)

    done: set[str] = set()

    def on_event(worker: int, task: Task, event: Any) -> None:
        trial = task.trial
        over = isinstance(event, Finished | WorkerDied)
        if isinstance(event, WorkerDied):
            event = _death_record(task, done, describe_environment(device, threads), str(event))
        if isinstance(event, Record):
            store.put(event)
            if event.status == "done":
                done.add(event.key)
            listener.stored(worker, trial, event)
        elif not over:
            listener.progressed(worker, trial, event)
        if over:
            listener.finished(worker, trial)

    if options.jobs == 1 or len(tasks) == 1:
        run_here(tasks, on_event)
    else:
        run_in_processes(tasks, options.jobs, options.plugins, on_event)


def _death_record(task: Task, done: set[str], environment: dict[str, Any], error: str) -> Record:
    """The failure of what a worker was at when it died: the training, or what came after it."""
    trial = task.trial
    if task.trained is None and trial.key not in done:
        description = trial.description()
        return Record(trial.key, "trial", None, "failed", trial.labels(), description, environment, error=error)
    for probe in trial.probes:
        if probe.key not in done:
            description = {**probe.probe.identity(), "subject": trial.key}
            labels = {**trial.labels(), "probe": probe.probe.label}
            return Record(probe.key, "probe", trial.key, "failed", labels, description, environment, error=error)
    open_cells = [cell for cell in trial.cells if cell.key not in done and not cell.stored]
    cell = open_cells[0] if open_cells else trial.cells[-1]
    labels, description = trial.labels(cell), cell.description()
    return Record(cell.key, "cell", trial.key, "failed", labels, description, environment, error=error)
