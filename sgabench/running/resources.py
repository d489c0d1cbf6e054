"""What a run computes with: device, threads, trials at the same time, and the executor."""

from __future__ import annotations

from collections.abc import Sequence

from sgabench.running.executors.executor import Executor
from sgabench.running.executors.here import Here
from sgabench.running.executors.processes import Processes
from sgabench.running.options import Options
from sgabench.suite.plan import TrialPlan
from sgabench.system.environment import choose_device, cores

MOST_ON_A_GPU = 16


def device_of(options: Options) -> str:
    """Where trials compute: ``cpu`` or ``cuda``.

    Raises:
        InputError: CUDA was asked for and there is none.
    """
    return choose_device(options.device)


def threads_of(options: Options) -> int:
    """Threads of a trial.

    They do not depend on what is left, nor on a measurement: a run that goes on must give the same bits.
    """
    jobs = options.jobs if options.jobs != "auto" else _most_at_once(device_of(options))
    return max(1, cores() // jobs)


def certain_jobs(options: Options) -> int:
    """Trials that are at the same time in any case: on a GPU, ``auto`` tries out how many fit."""
    if options.jobs != "auto":
        return options.jobs
    device = device_of(options)
    return 1 if device == "cuda" else _most_at_once(device)


def make_executor(left: Sequence[TrialPlan], options: Options) -> Executor:
    """The executor that the options ask for.

    Args:
        left: what it will run.
        options: how.
    """
    jobs = options.jobs if options.jobs != "auto" else _best_number(left, options)
    # Who asked for processes gets them, however little is left: what a plugin does to its process stays there.
    if jobs == 1 and options.trial_minutes is None:
        return Here(options.results)
    return Processes(options.results, jobs, options.plugins)


def _most_at_once(device: str) -> int:
    """Trials that may share a device if nobody says how many."""
    return MOST_ON_A_GPU if device == "cuda" else cores()


def _best_number(left: Sequence[TrialPlan], options: Options) -> int:
    """One trial for each core; on a GPU as many as the most demanding model lets it train fastest together."""
    device = device_of(options)
    limit = min(_most_at_once(device), len(left))
    if device != "cuda" or limit == 1:
        return limit
    from sgabench.running.sharing import best_number, workloads

    return min((best_number(work, device, limit) for work in workloads(left, options)), default=limit)
