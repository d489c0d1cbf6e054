"""What tests of several folders use: a suite that takes a second, a store with known numbers, a listener."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from sgabench.cli import main
from sgabench.plugins.registry import REGISTRIES
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from sgabench.tuning.search import Try
    from sgabench.tuning.subjects import Subject

TINY = """
description = "A second of everything."
seeds = [0, 1]
ratios = [0.5]

[training]
epochs = 1
batch_size = 64

[measurement]
throughput = false
min_run_time = 0.001

[[datasets]]
name = "digits"
train_size = 256

[[models]]
name = "resnet8"
width = 4

[[optimizers]]
name = "adam"
lr = 0.01

[[optimizers]]
name = "stochgradadam"
lr = 0.01
sampling_rate = 0.8

[[pruners]]
name = "magnitude"
"""


def variant(suite: Path, old: str, new: str) -> Path:
    """The same suite with one piece of text replaced; the piece must be there."""
    text = suite.read_text()
    assert old in text
    suite.write_text(text.replace(old, new, 1))
    return suite


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kill what was started in a session of its own, with all that it started, stopped or not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


# What all workers import.
WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(["sgabench.running.rehearsal", "sklearn.datasets"])


class Warm:
    """In place of multiprocessing, whose "spawn" imports torch anew: fork a process that has, and computed nothing."""

    @staticmethod
    def get_context(method: str) -> multiprocessing.context.ForkServerContext:
        assert method == "spawn"
        return WARM


def called_here(folder: Path, arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Call the command line in this process; plugins, threads and signals are afterwards what they were."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    interrupt = signal.getsignal(signal.SIGINT)
    with contextlib.ExitStack() as around:
        around.enter_context(mock.patch.dict(os.environ, env))
        around.enter_context(mock.patch("sgabench.running.executors.processes.multiprocessing", Warm))
        for registry in REGISTRIES.values():
            registry.load()
            around.enter_context(mock.patch.dict(registry._plugins))
            around.enter_context(mock.patch.dict(registry._sources))
        around.enter_context(contextlib.chdir(folder))
        around.enter_context(contextlib.redirect_stdout(out))
        around.enter_context(contextlib.redirect_stderr(err))
        try:
            main(arguments)
        except SystemExit as stop:
            code = stop.code
    signal.signal(signal.SIGINT, interrupt)
    if threads is not None:
        sys.modules["torch"].set_num_threads(threads)
    assert isinstance(code, int)
    shown, errors = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(arguments, code, shown, errors)


def called_in_a_fork(
    folder: Path, arguments: list[str], env: dict[str, str], address_space: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Call the command line in a process that has imported torch and asked nothing of the machine yet.

    With ``address_space`` it is limited to as many bytes.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = WARM.Process(target=_call_limited, args=(sender, folder, arguments, env, address_space))
    process.start()
    sender.close()
    try:
        return receiver.recv()  # type: ignore[no-any-return]
    finally:
        process.kill()
        process.join()


def _call_limited(
    sender: Connection, folder: Path, arguments: list[str], env: dict[str, str], address_space: int | None
) -> None:
    if address_space:
        resource.setrlimit(resource.RLIMIT_AS, (address_space, resource.getrlimit(resource.RLIMIT_AS)[1]))
    sender.send(called_here(folder, arguments, env))


ENVIRONMENT = {"device": "cpu", "cpu": "x", "cores": 2, "threads": 1, "python": "3", "packages": {"torch": "2"}}
DENSE = {("adam", 0): 0.8, ("adam", 1): 0.9, ("stochgradadam", 0): 0.75, ("stochgradadam", 1): 0.85}
PRUNED = {("adam", 0): 0.4, ("adam", 1): 0.6, ("stochgradadam", 0): 0.6, ("stochgradadam", 1): 0.7}


def timed(suite: Path) -> Path:
    """Let the tiny suite measure speed, too, which takes half of its time."""
    return variant(suite, "throughput = false\n", "")


COUNTS = {"classes": 10, "test_images": 1000}


def fill(store: Store, plan: Plan, **changes: dict[str, Any]) -> None:
    """Store a record for every trial and cell, with known numbers; ``changes`` by trial name."""
    for trial in plan.trials:
        who = (trial.optimizer.name, trial.seed)
        change = changes.get(f"{who[0]}_{who[1]}", {})
        record = Record(trial.key, "trial", None, "done", trial.labels(), trial.description(), ENVIRONMENT)
        record = replace(record, result={"top1": DENSE[who], "loss": 1.0, "images_per_s": 100.0, **COUNTS})
        if change.get("trial") == "missing":
            continue
        if "trial" in change:
            record = replace(record, status=change["trial"], result={}, error="it\nbroke")
            store.put(record)
            continue
        store.put(record)
        for cell in trial.cells:
            labels, description = trial.labels(cell), cell.description()
            result = {"top1": PRUNED[who], "loss": 2.0, "retention": PRUNED[who] / DENSE[who], "sparsity": 0.5}
            result |= {"compression_ratio": 2.0, "theoretical_speedup": 1.5, "measured_speedup": 1.0}
            done = Record(cell.key, "cell", trial.key, "done", labels, description, ENVIRONMENT, result)
            if change.get("cell"):
                done = replace(done, status=change["cell"], result={}, error="ValueError: no")
            store.put(done)


@dataclass
class Remembering:
    """A listener that keeps every try, and stops like Ctrl-C before one."""

    stop_before: int | None = None
    tries: list[Try] = field(default_factory=list)

    def started(self, subjects: Any, settings: Any, validation: Any) -> None:
        pass

    def progressed(self, trial: Any, progress: Any) -> None:
        if len(self.tries) + 1 == self.stop_before:
            raise KeyboardInterrupt

    def tried(self, subject: Subject, attempt: Try) -> None:
        self.tries.append(attempt)
