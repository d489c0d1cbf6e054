"""How planner, scheduler and store hold up with many nodes: everything is real but the trials and the clock.

    python benchmarks/scaling.py --nodes 1000 --trials 100000

The plan is made of a suite, put in order, handed out claim by claim through the loop of all executors, every record is
written to a store on disk, and the display writes its lines. Only the executor is simulated: its nodes take as long for
a trial as its multiply-adds say, times a factor of its own, and some nodes disappear. Printed as JSON: how long it took
by the fake clock compared with what no scheduler can beat, and processor time and memory of this process for each tenth
of the trials (also on the way, to stderr).
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import random
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgabench.report.progress import InLines
from sgabench.running.executors.executor import Began, Finished, Lost, OnEvent
from sgabench.running.options import Options
from sgabench.running.runner import carry_out
from sgabench.running.task import Task
from sgabench.running.worklist import WorkList
from sgabench.store.files import Folder
from sgabench.store.locks import Claims
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan, TrialPlan, make_plan, remaining
from sgabench.suite.resolving import resolve

DEPTHS = {"resnet8": 1.0, "resnet20": 3.3, "resnet32": 5.6, "resnet56": 10.3}  # roughly, by multiply-adds
SECONDS = 60.0  # of the smallest trial
SPREAD = 0.1  # standard deviation of the logarithm of a trial's time
ENVIRONMENT = {"python": "3", "packages": {"torch": "2"}, "cpu": "simulated", "device": "cpu", "cores": 1, "threads": 1}
LOSS = 0.01  # chance that a trial is on a node that disappears
ROOM = 1.1  # tasks at the executor for each node, as on Ray


def plan_of(trials: int) -> Plan:
    """A suite of four models and as many seeds and learning rates as it takes."""
    variants = max(1, round(math.sqrt(trials / len(DEPTHS) / 4)))
    seeds = max(1, math.ceil(trials / len(DEPTHS) / variants))
    suite = {
        "seeds": list(range(seeds)),
        "ratios": [0.5],
        "training": {"epochs": 10, "batch_size": 64},
        "datasets": [{"name": "digits"}],
        "models": [{"name": name, "width": 4} for name in DEPTHS],
        "optimizers": [{"name": "adam", "sweep": {"lr": [0.001 * (1 + step) for step in range(variants)]}}],
        "pruners": [{"name": "magnitude"}],
        "probes": [],
    }
    return make_plan(resolve(suite, Path("scaling.toml")), Path("data"))


@dataclass
class Simulated:
    """An executor whose nodes have a clock of their own.

    Attributes:
        nodes: one trial at a time on each.
        lost: how many of them disappear, each at a random moment of the first hours; others come in their place.
    """

    nodes: int
    lost: int
    random: random.Random
    now: float = 0.0
    where: str = "simulated"
    busy_seconds: float = 0.0
    losses: int = 0
    longest: float = 0.0
    _queue: deque[Task] = field(default_factory=deque)
    _running: list[tuple[float, int, Task, bool]] = field(default_factory=list)
    _number: int = 0

    def room(self) -> int:
        """A tenth more than there are nodes."""
        return int(self.nodes * ROOM) + 1 - len(self._queue) - len(self._running)

    def submit(self, task: Task, claim: int) -> None:
        """Begin a task, or let it wait for a node."""
        self._queue.append(task)

    def listen(self, on_event: OnEvent, seconds: float) -> None:
        """Go on to the end of the trial that ends next."""
        while self._queue and len(self._running) < self.nodes:
            self._begin(self._queue.popleft(), on_event)
        if not self._running:
            self.now += min(seconds, 1.0)
            return
        self.now, number, task, is_lost = heapq.heappop(self._running)
        if is_lost:
            self.losses += 1
            on_event(number, task, Lost())
            return
        for record in records_of(task):
            on_event(number, task, record)
        on_event(number, task, Finished())

    def end(self, task: Task, cause: str) -> None:
        """Nothing takes too long here."""
        raise NotImplementedError  # a part of the interface that is never called: no suite here has a time limit

    def stop(self) -> None:
        """Nothing is under way in the end."""
        assert not self._running

    def _begin(self, task: Task, on_event: OnEvent) -> None:
        self._number += 1
        takes = SECONDS * DEPTHS[task.trial.model.name] * self.random.lognormvariate(0, SPREAD)
        is_lost = self.lost > 0 and self.random.random() < LOSS
        if is_lost:
            self.lost -= 1
            takes *= self.random.random()
        self.busy_seconds += takes
        self.longest = max(self.longest, takes)
        heapq.heappush(self._running, (self.now + takes, self._number, task, is_lost))
        on_event(self._number, task, Began())


def records_of(task: Task) -> list[Record]:
    """Records of the size of real ones."""
    trial = task.trial
    numbers = {f"number_{place}": place / 7 for place in range(18)}
    history = [{"epoch": epoch, "loss": 1 / 3, "top1": 2 / 3, "lr": 0.01, "seconds": 1.5} for epoch in range(10)]
    detail = {"history": history, "layer_sparsity": {f"layer{place}.conv.weight": 0.5 for place in range(20)}}
    made: dict[str, Any] = {"environment": ENVIRONMENT, "result": {"top1": 0.9, **numbers}, "finished_at": 1.0}
    labels, description = trial.labels(), trial.description()
    done = Record(trial.key, "trial", None, "done", labels, description, detail=detail, **made)
    cells = [
        Record(cell.key, "cell", trial.key, "done", trial.labels(cell), cell.description(), **made)
        for cell in trial.cells
    ]
    return [done, *cells]


class Tenths(InLines):
    """The display of a run whose output goes to a file; what each tenth of the trials has cost this process.

    Args:
        trials: how many there are.
    """

    def __init__(self, trials: int) -> None:
        super().__init__()
        self.records = self.finished_trials = 0
        self.began = self._mark = 0.0
        self.tenths: list[dict[str, float]] = []
        self._all = trials

    def started(self, left: Sequence[TrialPlan], trained: Collection[str], device: str, jobs: int) -> None:
        """Plan and order are made."""
        super().started(left, trained, device, jobs)
        self.began = self._mark = time.process_time()

    def stored(self, worker: int, trial: TrialPlan, record: Record) -> None:
        """Count a record."""
        super().stored(worker, trial, record)
        self.records += 1

    def finished(self, worker: int, trial: TrialPlan) -> None:
        """Count a trial."""
        super().finished(worker, trial)
        self.finished_trials += 1
        if self.finished_trials % max(1, self._all // 10) == 0:
            now, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            tenth = {"trials": self.finished_trials, "cpu_seconds": round(now - self._mark, 2), "peak_mib": peak}
            self.tenths.append(tenth)
            print(json.dumps(tenth), file=sys.__stderr__, flush=True)
            self._mark = now


def simulate(nodes: int, trials: int, lost: int, folder: Path, seed: int = 0) -> dict[str, object]:
    """Run a plan; gives the figures."""
    started = time.process_time()
    plan = plan_of(trials)
    planned = time.process_time()
    executor = Simulated(nodes, lost, random.Random(seed))
    options = Options(results=folder, device="cpu")
    with (
        Store(folder, create=True) as store,
        store.sharing(),
        Claims(folder) as claims,
        Path(os.devnull).open("w") as sink,
    ):
        left = remaining(plan, store.statuses())

        def task(trial: TrialPlan, trained: Record | None) -> Task:
            return Task(trial, trained, plan.suite.measurement, Folder(folder), folder, False, "cpu", 1)

        watcher = Tenths(len(left))
        work = WorkList(left, {}, store, claims, task, watcher)
        with Path(os.devnull).open("w") as sink, redirect_stderr(sink):
            carry_out(work, left, (), executor, store, options, watcher, lambda: executor.now)
        stored = len(store.statuses())
    bound = max(executor.busy_seconds / nodes, executor.longest)
    return {
        "nodes": nodes,
        "trials": len(left),
        "records": watcher.records,
        "stored": stored,
        "finished": watcher.finished_trials,
        "lost": executor.losses,
        "makespan_hours": round(executor.now / 3600, 3),
        "lower_bound_hours": round(bound / 3600, 3),
        "over_lower_bound": round(executor.now / bound - 1, 4),
        "plan_seconds": round(planned - started, 2),
        "order_seconds": round(watcher.began - planned, 2),
        "driver_ms_per_record": round(1000 * (time.process_time() - watcher.began) / watcher.records, 3),
        "tenths": watcher.tenths,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--lost", type=int, default=100, help="nodes that disappear in the middle of a trial")
    parser.add_argument("--folder", type=Path, help="for the store; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = simulate(given.nodes, given.trials, given.lost, given.folder or Path(temporary) / "results")
    print(json.dumps(found, indent=2))
