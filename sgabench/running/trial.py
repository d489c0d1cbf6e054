"""A trial from data to records: train once, then prune and measure for every cell."""

from __future__ import annotations

import copy
import json
import logging
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import safetensors.torch
import torch
from torch import nn

from sgabench.errors import InputError, describe
from sgabench.measuring.measurement import Size, compression_ratio, measure_size, theoretical_speedup
from sgabench.measuring.sparse import speed_of_pattern
from sgabench.measuring.sweep import Sweep, example_of
from sgabench.measuring.timing import speed_of
from sgabench.models.layers import weights_left_out
from sgabench.models.pretrained import published_weights
from sgabench.plugins import PruningContext, probes
from sgabench.running.kept import write_kept
from sgabench.running.part import Part, first_of, of_cell, of_probe
from sgabench.running.patience import in_the_meantime
from sgabench.running.pruning import Pruning
from sgabench.running.reloading import reload
from sgabench.running.task import Task
from sgabench.running.unchanged import check_unchanged
from sgabench.store.forms import finite, plain_numbers
from sgabench.store.store import Kind, Record, Status, checksum, snapshot_name, weights_name
from sgabench.suite.plan import CellPlan, ProbePlan
from sgabench.suite.tables import Recipe
from sgabench.system.environment import PeakMemory, describe_environment
from sgabench.system.seeds import derive_seed
from sgabench.training.building import (
    load_data,
    precision_on,
    seen_by,
    set_up_torch,
    starting_network,
    train_network,
    untrained_network,
)
from sgabench.training.data import Data, Images, batches, calibration
from sgabench.training.evaluation import evaluate
from sgabench.training.finetuning import After
from sgabench.training.loop import NO_TRAINING, Diverged, Training
from sgabench.training.progress import Progress
from sgabench.training.snapshot import Snapshots
from sgabench.training.watching import Watch

_logger = logging.getLogger("sgabench")

Emit = Callable[["Record | Progress | Part"], None]
Alone = Callable[[], AbstractContextManager[bool]]


def run_trial(task: Task, emit: Emit, alone: Alone, data: Data | None = None) -> None:
    """Run what is left of a trial; every record is emitted as soon as it is made.

    A failure becomes a record with its traceback; what does not depend on the failed part continues.

    Args:
        task: the trial.
        emit: takes records, the progress of the training about twice a second, and each part as it begins.
        alone: a context in which no other process computes, if possible; its value says whether that succeeded.
        data: to use instead of the data set.
    """
    set_up_torch(task.device, task.threads)

    def undisturbed(event: Record | Progress | Part) -> None:
        try:
            emit(event)
        except Exception as error:  # re-raised unchanged, past the code that isolates failures of the trial
            raise _NotDelivered from error

    try:
        _TrialRun(task, undisturbed, alone, data).run()
    except _NotDelivered as error:
        assert error.__cause__ is not None
        raise error.__cause__ from None


def load_trained(task: Task, trained: Record, data: Data, emit: Emit) -> None:
    """Load the weights of a training, as a later run does; a failure is emitted as that of the training."""
    run = _TrialRun(task, emit, lambda: nullcontext(False), data)
    with run.isolated(first_of(task.trial, False)):
        run.load(trained)


class _NotDelivered(BaseException):
    """A record or weights could not be stored, which must not be recorded as a failure of the trial."""


class _TrialRun:
    def __init__(self, task: Task, emit: Emit, alone: Alone, data: Data | None) -> None:
        self.task = task
        self.trial = task.trial
        self.emit = emit
        self.alone = alone
        self._given = data
        self._measured_size: Size | None = None
        self.recipe = Recipe.model_validate(self.trial.optimizer.settings["training"])
        self.environment = describe_environment(
            task.device, task.threads, self.trial.optimizer.tags.get("packages", ())
        )
        self.precision = self.environment["precision"] = precision_on(self.recipe, self.environment)

    def run(self) -> None:
        trial = self.trial
        network = None
        trained = self.task.trained
        with self.isolated(first_of(trial, trained is not None)):
            check_unchanged(self.trial, self.task.data_dir)
            network = self.load(trained) if trained else None
            if network is None:
                network, trained = self._train()
            elif trained is not None and self._watching:
                self._repeat(trained)
        if network is None or trained is None:
            return
        dense = tuple(plan for plan in trial.probes if not plan.of_training)
        self._probe(dense, trial.key, network, self._context(frozenset()))
        self._cells(network, trained)

    @contextmanager
    def isolated(self, part: Part) -> Iterator[None]:
        """Turn an exception into a record: the one place that isolates failures."""
        status: Status = "failed"
        self.emit(part)
        try:
            yield
            return
        except Diverged as error:
            status, message = ("diverged" if part.kind == "trial" else "failed"), str(error)
        except InputError as error:
            message = str(error)
        except (Exception, SystemExit):
            message = traceback.format_exc()
        self.emit(part.failed(self.environment, message, status))

    def _emit_record(
        self,
        kind: Kind,
        key: str,
        parent: str | None,
        labels: Mapping[str, Any],
        description: Mapping[str, Any],
        result: Mapping[str, Any],
        detail: Mapping[str, Any],
    ) -> Record:
        record = Record(
            key, kind, parent, "done", labels, description, self.environment, finite(result), finite(detail)
        )
        self.emit(record)
        return record

    @cached_property
    def _calibration(self) -> Images:
        return calibration(self._data, self.trial.seed)

    @cached_property
    def _data(self) -> Data:
        task = self.task
        data = self._given or load_data(self.trial.dataset, task.data_dir, task.download, task.device)
        return seen_by(self.trial.model, self.trial.dataset, data)

    def _network(self) -> nn.Module:
        return untrained_network(self.trial, self._data)

    def load(self, trained: Record) -> nn.Module | None:
        """The trained network of an earlier run; None if its weights cannot be used."""
        return reload(self._network, self.task.files, trained, self._accuracy, self.environment)

    def _train(self) -> tuple[nn.Module, Record]:
        trial = self.trial
        started = time.perf_counter()
        memory = PeakMemory(self.task.device)
        micro_batches = 1
        attempt = self._attempt(micro_batches)
        if attempt is None:
            micro_batches = 2
            attempt = self._attempt(micro_batches)
        assert attempt is not None
        network, training, watch = attempt
        peak = memory.bytes()
        size = self._dense_size(network)
        # Copies, because the format does not allow tensors that share memory.
        state = {
            name: value.clone(memory_format=torch.contiguous_format) for name, value in network.state_dict().items()
        }
        content = safetensors.torch.save(state)
        try:
            self.task.files.write(name := weights_name(trial.key), content)
        except OSError as error:
            message = f"{self.task.files.where(name)}: cannot write: {error.strerror or error}; fix that and run again"
            raise _NotDelivered from InputError(message)
        result = {
            **self._accuracy(network),
            **size.numbers(),
            **self._timing(network),
            **training.numbers(),
            "seconds": time.perf_counter() - started + training.seconds_before,
            "peak_memory": peak,
            "precision": self.precision,
            **({"micro_batches": micro_batches} if micro_batches > 1 else {}),
            "classes": self._data.spec.classes,
            "test_images": len(self._data.test),
            "weights_sha256": checksum(content),
        }
        constants = {"mean": self._data.mean.tolist(), "std": self._data.std.tolist()}
        detail = {**size.layers(), "normalization": constants}
        if training.history:
            detail["history"] = training.history
        if left_out := weights_left_out(network):
            detail["left_out"] = left_out
        if published := published_weights(network):
            detail["pretrained"] = published
        record = self._emit_record("trial", trial.key, None, trial.labels(), trial.description(), result, detail)
        self._watched(watch)
        self.task.files.remove(snapshot_name(trial.key))
        return network, record

    def _repeat(self, trained: Record) -> None:
        """Train once more, only for probes of the training; its stored record stays."""
        part = of_probe(self.trial, self.trial.key, self._watching[0])
        with self.isolated(part):
            attempt = self._attempt(trained.result.get("micro_batches", 1))
            if attempt is None:
                raise InputError("there is not enough memory to repeat the training")
            self._watched(attempt[2])
            self.task.files.remove(snapshot_name(self.trial.key))

    @property
    def _watching(self) -> list[ProbePlan]:
        """The probes of the training that are left to do."""
        return [plan for plan in self.trial.probes if plan.of_training]

    def _watch(self, network: nn.Module) -> Watch | None:
        """The probes of the training, on a network about to be trained; those that cannot be made have failed."""
        if not self._watching:
            return None
        built = {}
        for plan in self._watching:
            with self.isolated(of_probe(self.trial, self.trial.key, plan)):
                context = self._context(frozenset())
                built[plan.key] = probes[plan.probe.name].build(network, context, **plan.probe.options)
        self.emit(first_of(self.trial, self.task.trained is not None))
        return Watch(built)

    def _watched(self, watch: Watch | None) -> None:
        """Emit the records of the probes of the training."""
        for plan in self._watching:
            part = of_probe(self.trial, self.trial.key, plan)
            if watch is not None and plan.key in watch.failed:
                self.emit(part.failed(self.environment, watch.failed[plan.key]))
            elif watch is not None and plan.key in watch.probes:
                with self.isolated(part):
                    self._emit_probe(plan, self.trial.key, watch.probes[plan.key].result())

    def _attempt(self, micro_batches: int) -> tuple[nn.Module, Training, Watch | None] | None:
        """A new network, trained; None if whole batches do not fit into memory."""
        network, snapshots = starting_network(self.trial, self._data), self._snapshots(micro_batches)
        if not self.trial.trains:
            return network.eval(), NO_TRAINING, None
        watch = self._watch(network)
        try:
            training = train_network(
                network, self.trial, self._data, self.precision, self.emit, snapshots, micro_batches, watch
            )
            return network, training, watch
        except Diverged:
            snapshots.discard()
            raise
        except torch.OutOfMemoryError as error:
            if micro_batches > 1:
                raise
            _logger.warning("%s: retried with half a batch at a time: %s", self.trial.name, describe(error))
        torch.cuda.empty_cache()  # has no effect where there is no CUDA
        return None

    def _snapshots(self, micro_batches: int) -> Snapshots:
        task = self.task
        # Another version, device or number of threads would round differently from there on.
        environment = {name: fact for name, fact in self.environment.items() if name != "commit"}  # the code has a hash
        same = {"key": self.trial.key, "environment": environment, "micro_batches": micro_batches}
        if self._watching:
            same["probes"] = sorted(plan.key for plan in self._watching)
        return Snapshots(task.files, snapshot_name(self.trial.key), same, task.snapshot_seconds)

    def _cells(self, dense: nn.Module, trained: Record) -> None:
        """Prune and measure all cells."""
        with ThreadPoolExecutor(1) as threads:
            sweep = Sweep(dense, self._data, self.precision, self._context(frozenset()), threads)
            pruning = Pruning(sweep, After(self.trial, self._data, self.precision, (), self.emit))
            for cell in self.trial.cells:
                self._cell(cell, sweep, pruning, trained)

    def _cell(self, cell: CellPlan, sweep: Sweep, pruning: Pruning, trained: Record) -> None:
        """Run one cell, with failures isolated; its file is compressed while the network is evaluated."""
        labels = self.trial.labels(cell)
        with self.isolated(of_cell(self.trial, cell)):
            started = time.perf_counter()
            excluded = pruning.excluded(cell)
            context = self._context(excluded, cell)
            with in_the_meantime(lambda: self._still_pruning(cell)):
                network, detail = pruning.network(cell, context)
            seconds = time.perf_counter() - started
            if cell.stored:
                self._probe(cell.probes, cell.key, network, context)
                return
            measuring = sweep.begin_size(network, excluded)
            found = sweep.evaluate(network)
            size, dense_size = measuring.result(), self._dense_size(sweep.dense)
            result = {
                **found.numbers(),
                **size.numbers(),
                **self._timing(network, sweep.dense, excluded if has_rows_of_n_of_m(cell) else None),
                "retention": found.top1 / trained.result["top1"] if trained.result["top1"] else None,
                "compression_ratio": compression_ratio(dense_size, size),
                "theoretical_speedup": theoretical_speedup(dense_size, size),
                "pruning_seconds": seconds,
                "precision": self.precision,
            }
            if self.task.kept is not None:
                write_kept(self.task.kept, network, self.trial, cell, self._data, result)
            detail = {**sweep.notes, **size.layers(), **detail}
            self._emit_record("cell", cell.key, self.trial.key, labels, cell.description(), result, detail)
            self._probe(cell.probes, cell.key, network, context)

    def _still_pruning(self, cell: CellPlan) -> None:
        settings = cell.pruner.settings
        if not settings["finetune"] and not settings.get("schedule"):  # which show their progress
            _logger.warning("%s: cell %s is still being pruned", self.trial.name, cell.name)

    def _probe(self, plans: tuple[ProbePlan, ...], subject: str, network: nn.Module, context: PruningContext) -> None:
        for plan in plans:
            probe, part = plan.probe, of_probe(self.trial, subject, plan)
            with self.isolated(part):
                given = replace(context, evaluate=self._accuracy)
                detail = probes[probe.name].build(copy.deepcopy(network), given, **probe.options)
                self._emit_probe(plan, subject, detail)

    def _emit_probe(self, plan: ProbePlan, subject: str, found: Any) -> None:
        detail, part = finite(found), of_probe(self.trial, subject, plan)
        if not isinstance(detail, dict):
            raise TypeError(f"probe {plan.probe.name!r} returned {type(detail).__name__}, not a dict")
        json.dumps(detail)  # raises here, where it is the probe's own failure
        self._emit_record("probe", plan.key, subject, part.labels, part.description, plain_numbers(detail), detail)

    def _context(self, excluded: frozenset[str], cell: CellPlan | None = None) -> PruningContext:
        seed = derive_seed(self.trial.seed, "pruning")
        drawn = partial(batches, self._data, self._calibration, self.recipe.batch_size)
        initial = partial(starting_network, self.trial, self._data) if self.trial.trains else None
        context = PruningContext(self._data.spec, seed, drawn, excluded, initial=initial)
        return replace(context, pruner=cell.pruner.label, ratio=cell.ratio) if cell else context

    def _dense_size(self, dense: nn.Module) -> Size:
        """The size of the trained network, measured once for all cells."""
        if self._measured_size is None:
            self._measured_size = measure_size(dense, example_of(self._data))
        return self._measured_size

    def _accuracy(
        self, network: nn.Module, change: Callable[[torch.Tensor, int], torch.Tensor] | None = None
    ) -> dict[str, float]:
        return evaluate(network, self._data, self._data.test, self.precision, change).numbers()

    def _timing(
        self, network: nn.Module, dense: nn.Module | None = None, excluded: Collection[str] | None = None
    ) -> dict[str, Any]:
        """Measure speed; networks in an N:M pattern also need their excluded modules."""
        asked = self.task.measurement
        if not asked.throughput:
            return {}
        batch = self._data.normalize(self._data.test.pixels(slice(asked.batch_size)))
        timed: Any = {"precision": self.precision, "min_run_time": asked.min_run_time}
        if dense is not None and excluded is not None:
            return speed_of_pattern(network, batch, self.alone, dense, excluded, **timed)
        return speed_of(network, batch, self.alone, dense, **timed)


def has_rows_of_n_of_m(cell: CellPlan) -> bool:
    """Whether a cell's pruner makes an N:M pattern such as 2:4."""
    return ":" in str(cell.pruner.options.get("pattern", ""))
