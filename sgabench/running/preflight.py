"""Find bad input before the first step, by building everything once."""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sgabench.datasets.streamed import bytes_in_memory
from sgabench.errors import InputError, describe
from sgabench.models.layers import input_and_classifier
from sgabench.plugins import ImageSpec, PruningContext, pruners
from sgabench.running.task import Task
from sgabench.suite.checkpoints import NO_OPTIMIZER
from sgabench.suite.choices import Choice
from sgabench.suite.plan import CellPlan, left_out
from sgabench.suite.tables import Recipe
from sgabench.system.memory import require
from sgabench.system.precision import uses_bf16
from sgabench.training.building import build_optimizer, initial_network, load_data, seen_by
from sgabench.training.checkpoints import load_checkpoint
from sgabench.training.data import Data
from sgabench.training.footprint import Footprint, kept_by, limited, measure, need

_logger = logging.getLogger("sgabench")


def preflight(tasks: Sequence[Task], *, strict: bool = False, workers: int = 1) -> None:
    """Build everything that the tasks name once.

    Exceptions of plugins are left to their trials, which keep the traceback and do not affect others.

    Args:
        tasks: what is to be run.
        strict: report exceptions of plugins, too.
        workers: processes that run tasks at the same time; 0: on other machines, whose memory is unknown.

    Raises:
        InputError: a data set that is missing or damaged, a model that does not fit it, options that an optimizer
            refuses, an allocation that does not fit the model's layers, a batch larger than the training split, a
            training that cannot fit into memory.
    """
    seen: set[str] = set()
    footprints: dict[str, Footprint | None] = {}
    latest: tuple[str, nn.Module | None] = ("", None)  # more than one might be too much

    def first_time(*parts: Any) -> bool:
        key = json.dumps(parts, sort_keys=True)
        return key not in seen and not seen.add(key)  # type: ignore[func-returns-value]

    for task in tasks:
        dataset, model, optimizer = task.trial.dataset, task.trial.model, task.trial.optimizer
        trains = task.trained is None and task.trial.trains
        brought = task.trial.checkpoint if task.trained is None else None
        of = brought.identity() if brought else None
        if not first_time(trains, dataset.identity(), model.identity(), optimizer.identity(), of):
            continue
        data = None
        with input_errors_of("dataset", dataset, strict):
            data = load_data(dataset, task.data_dir, task.download, task.device)
            batch_size = optimizer.settings["training"]["batch_size"]
            if task.trial.trains and len(data.train) < batch_size:
                raise InputError(
                    f"training.batch_size {batch_size} is larger than the training split ({len(data.train)} images)"
                )
            warning = left_out(dataset, len(data.train), batch_size) if trains else None
            if warning and first_time(warning):
                _logger.warning("warning: %s", warning)
        network = json.dumps([dataset.identity(), model.identity()], sort_keys=True)
        if data is not None and latest[0] != network:
            latest = (network, None)
            with input_errors_of("model", model, strict):
                seen_by(model, dataset, data)
                built = _build(model, data.spec, max(1, workers))
                if first_time(network):
                    footprints[network] = _check_model(built, data.spec)
                latest = (network, built)
        tables = [cell for cell in task.trial.cells if isinstance(cell.pruner.options.get("allocation"), Mapping)]
        asked = [(cell.pruner.identity(), cell.ratio) for cell in tables]
        if latest[1] is not None and data is not None and tables and first_time(network, asked):
            with input_errors_of("model", model, strict):
                _check_tables(tables, latest[1], data.spec)
        if data is not None and brought is not None:
            with input_errors_of("checkpoint", optimizer, strict):
                load_checkpoint(initial_network(model, data.spec, 0), brought)
        if latest[1] is not None and optimizer.name != NO_OPTIMIZER:
            with input_errors_of("optimizer", optimizer, strict):
                recipe = optimizer.settings["training"]
                steps = len(data.train) // recipe["batch_size"] if data is not None else 1
                build_optimizer(optimizer, latest[1], 0, steps_per_epoch=steps, epochs=recipe["epochs"])
        footprint = footprints.get(network)
        if workers and trains and data is not None and footprint is not None:
            with input_errors_of("model", model, strict):
                _check_memory(task, data, footprint, workers)


@contextmanager
def input_errors_of(kind: str, choice: Choice, strict: bool) -> Iterator[None]:
    """Raise input errors with the entry's label; other exceptions only if strict."""
    try:
        yield
    except InputError as error:
        message = str(error)
        raise InputError(message if repr(choice.label) in message else f"{kind} {choice.label!r}: {message}") from None
    except (Exception, SystemExit) as error:
        if strict:
            raise InputError(f"{kind} {choice.label!r}: {describe(error)}") from error


def _build(model: Choice, spec: ImageSpec, workers: int) -> nn.Module:
    with limited(workers):
        return initial_network(model, spec, 0)


def _check_model(network: nn.Module, spec: ImageSpec) -> Footprint | None:
    """Run a network once; returns its memory footprint, if it can be measured."""
    with torch.inference_mode():
        logits = network.eval()(torch.zeros(2, spec.channels, spec.height, spec.width))
    if not isinstance(logits, Tensor) or logits.shape != (2, spec.classes):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"returns {found} for 2 images, not logits of shape (2, {spec.classes})")
    try:
        return measure(network, spec)
    except Exception:  # left to its trial
        return None


def _check_tables(cells: Sequence[CellPlan], network: nn.Module, spec: ImageSpec) -> None:
    """Check that allocations by names of layers fit the model's layers, whatever their scores."""
    ends = input_and_classifier(network, torch.zeros(1, spec.channels, spec.height, spec.width))
    for cell in cells:
        included = (cell.pruner.settings["include_input"], cell.pruner.settings["include_classifier"])
        excluded = [names for names, include in zip(ends, included, strict=True) if not include]
        context = PruningContext(spec, 0, lambda: iter(()), frozenset[str]().union(*excluded))
        options = {name: cell.pruner.options[name] for name in ("pattern", "allocation") if name in cell.pruner.options}
        with input_errors_of("pruner", cell.pruner, True):
            pruners["magnitude"].build(copy.deepcopy(network), cell.ratio, context, **options)


def _check_memory(task: Task, data: Data, footprint: Footprint, workers: int) -> None:
    """Refuse a training that cannot fit into memory."""
    optimizer = task.trial.optimizer
    recipe = Recipe.model_validate(optimizer.settings["training"])
    half = recipe.precision == "bf16" and uses_bf16(task.device)
    steps = recipe.epochs * (len(data.train) // recipe.batch_size)
    needed = need(footprint, recipe, kept_by(optimizer, steps), task.device, half=half)
    what = f"training with optimizer {optimizer.label!r} at batch size {recipe.batch_size} ({needed})"
    total, left = needed.total, None
    if workers > 1:  # this process has loaded its data already
        total += sum(bytes_in_memory(split.images) for split in (data.train, data.validation, data.test))
    if task.device == "cuda":
        torch.cuda.empty_cache()  # makes the memory of earlier data sets available
        left = torch.cuda.mem_get_info()[0] // math.ceil(workers / torch.cuda.device_count())
    require(total, what, workers, left)
