"""Train on the training split without the images held out for validation, and measure only on those."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from sgabench.errors import InputError
from sgabench.measuring.sweep import example_of
from sgabench.models.layers import input_and_classifier
from sgabench.plugins import PruningContext, pruners
from sgabench.running.options import Options
from sgabench.running.preflight import input_errors_of, preflight
from sgabench.running.task import Task
from sgabench.store.files import Folder
from sgabench.suite.choices import Choice
from sgabench.suite.plan import TrialPlan, make_plan
from sgabench.suite.resolving import Suite
from sgabench.suite.tables import Measurement, Recipe
from sgabench.system.environment import choose_device, cores, describe_environment
from sgabench.training.building import load_data, precision_on, seen_by, set_up_torch, train_network, untrained_network
from sgabench.training.data import Data, batches
from sgabench.training.evaluation import EVALUATION_BATCH, evaluate
from sgabench.training.loop import Diverged
from sgabench.training.progress import Progress
from sgabench.tuning.objective import DENSE, Objective

# Of the training images, if neither the command nor the suite says how many to hold out.
DEFAULT_SHARE = 0.1

OnProgress = Callable[[TrialPlan, Progress], None]


@dataclass(frozen=True)
class Validation:
    """The data sets and models of a suite without their test splits: what an optimizer is judged on.

    Attributes:
        trials: one for each (data set, model, seed), into which an optimizer is put.
        data: by label of the data set; the test split is empty.
        options: folders of the data, and whether to download.
        environment: as in a record.
        objective: measured on the validation split.
    """

    trials: tuple[TrialPlan, ...]
    data: dict[str, Data]
    options: Options
    environment: dict[str, Any]
    objective: Objective = DENSE

    def top1(self, optimizer: Choice, on_progress: OnProgress) -> dict[str, float | None]:
        """Train with an optimizer, and measure top-1 on the validation split, after pruning if the objective says so.

        Returns:
            The fraction by ``dataset/model/seed``; None where the training diverged.
        """
        return {
            f"{trial.dataset.label}/{trial.model.label}/{trial.seed}": self._top1(trial, on_progress)
            for trial in self._with(optimizer)
        }

    def mean(self, top1: Mapping[str, float | None]) -> float:
        """The mean of what `top1` gave; a training that diverged counts as guessing, as in the leaderboard."""
        chance = {label: 1 / data.spec.classes for label, data in self.data.items()}
        counted = [chance[name.split("/")[0]] if value is None else value for name, value in top1.items()]
        return sum(counted) / len(counted)

    def _top1(self, trial: TrialPlan, on_progress: OnProgress) -> float | None:
        data = seen_by(trial.model, trial.dataset, self.data[trial.dataset.label])
        recipe = Recipe.model_validate(trial.optimizer.settings["training"])
        precision = precision_on(recipe, self.environment)
        network = untrained_network(trial, data)
        # As in a run, only the last epoch counts: the held-out images are not evaluated before.
        training_alone = replace(data, validation=data.validation.part(slice(0)))
        try:
            train_network(network, trial, training_alone, precision, partial(on_progress, trial))
        except Diverged:
            return None
        if self.objective.ratio is not None:
            network = pruned(network, data, self.objective.ratio)
        return evaluate(network, data, data.validation, precision).top1

    def check(self, optimizers: Sequence[Choice]) -> None:
        """Build everything once with each of some optimizers.

        Raises:
            InputError: something would make a training fail at once.
        """
        options, device, threads = self.options, self.environment["device"], self.environment["threads"]
        places = (Folder(options.results), options.data, options.download)
        trials = [trial for optimizer in optimizers for trial in self._with(optimizer)]
        preflight([Task(trial, None, Measurement(), *places, device, threads) for trial in trials], strict=True)

    def held_out(self) -> str:
        """How many images of each data set, in words."""
        return "; ".join(
            f"{len(data.validation)} images of {label}, {len(data.train)} left to train on"
            for label, data in self.data.items()
        )

    def _with(self, optimizer: Choice) -> list[TrialPlan]:
        return [replace(trial, optimizer=optimizer) for trial in self.trials]


def pruned(network: nn.Module, data: Data, ratio: float) -> nn.Module:
    """The network after one-shot magnitude pruning with the pruner's defaults, input layer and classifier excluded."""
    excluded = frozenset[str]().union(*input_and_classifier(network, example_of(data)))
    context = PruningContext(data.spec, 0, lambda: batches(data, data.train, EVALUATION_BATCH), excluded)
    plugin = pruners["magnitude"]
    result: nn.Module = plugin.build(network, ratio, context, **plugin.resolve({}))
    return result.eval()


def prepare_validation(
    suite: Suite, seeds: tuple[int, ...], size: int | None, options: Options, objective: Objective = DENSE
) -> Validation:
    """Load the data sets of a suite and hold out a part of each training split.

    Args:
        suite: what to train; its own seeds are not used.
        seeds: of the trainings.
        size: images to hold out of each data set; None: as in the suite, by default a tenth.
        options: folders and device.
        objective: that tries are judged by.

    Raises:
        InputError: a data set is missing, or too small to hold out that many.
    """
    device, threads = choose_device(options.device), cores()
    set_up_torch(device, threads)
    sized = tuple(_hold_out(dataset, size, options, device) for dataset in suite.datasets)
    # Only the trainings of these trials are used, and their optimizer is replaced later.
    plan = make_plan(
        replace(suite, datasets=sized, seeds=seeds, optimizers=suite.optimizers[:1], checkpoints=()), options.data
    )
    data = {}
    for dataset in sized:
        with input_errors_of("dataset", dataset, True):
            loaded = load_data(dataset, options.data, options.download, device)
            data[dataset.label] = _without_test(loaded)
    return Validation(plan.trials, data, options, describe_environment(device, threads), objective)


def _hold_out(dataset: Choice, size: int | None, options: Options, device: str) -> Choice:
    """The data set with its validation split, which must have room for an image of each class."""
    whole = replace(dataset, settings={**dataset.settings, "train_size": None, "validation_size": 0})
    with input_errors_of("dataset", dataset, True):
        data = load_data(whole, options.data, options.download, device)
    chosen = size or dataset.settings["validation_size"] or round(DEFAULT_SHARE * len(data.train))
    if chosen < data.spec.classes:
        raise InputError(
            f"--validation-size: {chosen} of the {len(data.train)} training images of dataset {dataset.label!r} "
            f"are too few for its {data.spec.classes} classes; hold out at least {data.spec.classes}"
        )
    return replace(dataset, settings={**dataset.settings, "validation_size": chosen})


def _without_test(data: Data) -> Data:
    """The same data without the test split, so that it cannot be used even by mistake."""
    return replace(data, test=data.test.part(slice(0)))
