"""Run a plan: everything that the store does not have yet, and store the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from sgabench.errors import InputError
from sgabench.running.executors.executor import Began, Event, Executor, Finished, WorkerDied
from sgabench.running.executors.loop import run_tasks
from sgabench.running.listening import Listener
from sgabench.running.options import Options
from sgabench.running.order import Expected
from sgabench.running.part import Part, first_of
from sgabench.running.resources import certain_jobs, device_of, make_executor, threads_of
from sgabench.running.task import Task
from sgabench.running.worklist import WorkList
from sgabench.store.files import files_of
from sgabench.store.locks import Claims
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan, TrialPlan, only_failed, part_of, remaining, select
from sgabench.system.collecting import uncollected
from sgabench.system.environment import describe_environment


def run_plan(plan: Plan, store: Store, options: Options, listener: Listener) -> None:
    """Run the part of a plan that a store lacks; the plan has passed `check`.

    Args:
        plan: the whole plan; the options choose a part.
        store: open for writing, shared with other runs.
        options: of the run.
        listener: receives the progress.
    """
    found = store.outcomes()
    left = _left(plan, options, {key: status for key, (status, _) in found.items()})
    if left:
        failed_before = {key: at for key, (status, at) in found.items() if status == "failed"}
        trained = {key for key, (status, _) in found.items() if status == "done"}
        _execute(left, trained, failed_before, plan, store, options, listener)


def check(plan: Plan, options: Options, *, strict: bool = False) -> None:
    """Build everything that is left to run once, without training or writing anything.

    Raises:
        InputError: something cannot be run or, if strict, would make a trial fail at once.
    """
    if options.jobs != "auto" and (not isinstance(options.jobs, int) or options.jobs < 1):
        raise InputError(f"--jobs {options.jobs}: must be an integer, at least 1, or auto")
    if not options.snapshot_minutes >= 0:
        raise InputError(f"--snapshot-minutes {options.snapshot_minutes}: must be 0 or more")
    if options.trial_minutes is not None and not options.trial_minutes > 0:
        raise InputError(f"--trial-timeout {options.trial_minutes:g}: must be more than 0 minutes")
    with Store(options.results) as store:
        left = _left(plan, options, store.statuses())
        if left:
            with uncollected():
                from sgabench.running.preflight import preflight

            task = _task_maker(plan, options)
            trained = {r.key: r for r in store.records("trial", [t.key for t in left]) if r.status == "done"}
            tasks = [task(trial, trained.get(trial.key)) for trial in left]
            if options.ray is not None:  # this machine may lack what the nodes have
                tasks = [replace(task, device="cpu") for task in tasks]
            preflight(tasks, strict=strict, workers=min(certain_jobs(options), len(left)))
            if strict and not options.retry_failed:  # those failures are known
                _rehearse(tasks)


def _rehearse(tasks: Sequence[Task]) -> None:
    """Rehearse each trial, in this process."""
    with uncollected():
        from sgabench.running.rehearsal import failure_of, rehearse

    for task in tasks:
        for record in rehearse(task, short=True):
            raise InputError(f"{task.trial.name}: {failure_of(record)}")


def to_run(plan: Plan, options: Options) -> Plan:
    """The part of a plan that a run with these options would do."""
    with Store(options.results) as store:
        return replace(plan, trials=tuple(_left(plan, options, store.statuses())))


def _left(plan: Plan, options: Options, stored: Mapping[str, str]) -> list[TrialPlan]:
    selected = chosen(plan, options)
    return remaining(only_failed(selected, stored) if options.retry_failed else selected, stored)


def chosen(plan: Plan, options: Options) -> Plan:
    """The part of a plan that the options choose.

    Raises:
        InputError: it is empty.
    """
    return part_of(select(plan, options.only), options.shard)


def _task_maker(plan: Plan, options: Options) -> Callable[[TrialPlan, Record | None], Task]:
    device, threads = device_of(options), threads_of(options)
    files = files_of(options.results, options.storage)
    return lambda trial, trained: Task(
        trial,
        trained,
        plan.suite.measurement,
        files,
        options.data,
        options.download,
        device,
        threads,
        60 * options.snapshot_minutes,
    )


def _execute(
    left: Sequence[TrialPlan],
    stored: Collection[str],
    failed_before: Mapping[str, float],
    plan: Plan,
    store: Store,
    options: Options,
    listener: Listener,
) -> None:
    trained = {trial.key for trial in left} & set(stored)
    with Claims(options.results) as claims:
        work = WorkList(left, failed_before, store, claims, _task_maker(plan, options), listener)
        carry_out(work, left, trained, make_executor(left, options), store, options, listener)


def carry_out(
    work: WorkList,
    left: Sequence[TrialPlan],
    trained: Collection[str],
    executor: Executor,
    store: Store,
    options: Options,
    listener: Listener,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Let an executor run the trials of a list.

    Args:
        work: the list.
        left: its trials.
        trained: keys of those whose network is stored.
        executor: is stopped at the end.
        store, options, listener: as for `run_plan`.
        clock: seconds.
    """
    at_once = min(executor.room(), len(left))
    if at_once > 1:
        work.put_in_order(Expected(left, trained, options))
    where = ", ".join(filter(None, (device_of(options), executor.where)))
    listener.started(left, trained, where, at_once)
    run_tasks(work, executor, _Events(work, store, listener), options.trial_minutes, clock)


class _Events:
    """Stores the records of trials, and passes events on to the listener."""

    def __init__(self, work: WorkList, store: Store, listener: Listener) -> None:
        self._work = work
        self._store = store
        self._listener = listener
        self._parts: dict[int, Part] = {}  # what each worker is doing

    def __call__(self, worker: int, task: Task, event: Event) -> None:
        trial = task.trial
        if isinstance(event, Part):
            self._parts[worker] = event
        elif isinstance(event, Record):
            self._put(worker, trial, event)
        elif isinstance(event, WorkerDied):
            failure = self._failure(worker, task, event)
            if failure is not None:
                self._put(worker, trial, failure)
        elif isinstance(event, Finished):
            self._parts.pop(worker, None)
            self._listener.finished(worker, trial)
        elif isinstance(event, Began):
            if event.where:
                self._listener.placed(worker, trial, event.where)
        else:
            self._listener.progressed(worker, trial, event)

    def _put(self, worker: int, trial: TrialPlan, record: Record) -> None:
        self._store.put(record)
        self._parts.pop(worker, None)  # its record is stored, so it has not failed whatever happens next
        self._listener.stored(worker, trial, record)

    def _failure(self, worker: int, task: Task, died: WorkerDied) -> Record | None:
        """The record of the part that a worker was doing when it died; None: it was between parts."""
        part = self._parts.pop(worker, None)
        if part is None:
            rest = self._work.rest(task)
            if rest is None:
                return None
            part = first_of(rest.trial, rest.trained is not None)
        environment = died.environment or describe_environment(task.device, task.threads)
        return part.failed(environment, f"{died.cause}, while it was at {part.what}")
