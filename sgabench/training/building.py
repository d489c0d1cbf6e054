"""Build what a description names: data sets on a device, networks, optimizers; and train a trial.

All that is random follows from seeds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sgabench.datasets.base import Dataset, split
from sgabench.errors import InputError
from sgabench.models.pretrained import published_normalization
from sgabench.optimizers.grouping import decay_weights_only
from sgabench.plugins import ImageSpec, TrainingContext, datasets, models, optimizers
from sgabench.suite.choices import Choice
from sgabench.suite.plan import TrialPlan
from sgabench.suite.tables import Recipe
from sgabench.system.environment import keep_freed_memory
from sgabench.system.seeds import derive_seed, seeded_globals
from sgabench.training.capture import capture_on
from sgabench.training.checkpoints import load_checkpoint
from sgabench.training.data import Data
from sgabench.training.dynamo import postpone_dynamo
from sgabench.training.loop import Training, train
from sgabench.training.progress import Progress
from sgabench.training.snapshot import Snapshots
from sgabench.training.watching import Watch


def set_up_torch(device: str, threads: int) -> None:
    """Set the global state of torch that a training depends on, in this process."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    if device == "cuda":
        # fp32 means fp32, and the same seed the same bits.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
    torch.set_default_dtype(torch.float32)  # a plugin of an earlier trial may have changed it


_given: dict[str, Data] = {}


def give_data(dataset: Choice, data: Data) -> None:
    """Let `load_data` take a data set from CPU memory; only the last one given is kept."""
    _given.clear()
    _given[json.dumps(dataset.identity(), sort_keys=True)] = data


def load_data(dataset: Choice, data_dir: Path, download: bool, device: str) -> Data:
    """A data set's splits on a device; the last one is cached for the next trial."""
    options = json.dumps(dataset.options, sort_keys=True)
    identity = json.dumps(dataset.identity(), sort_keys=True)
    sizes = dataset.settings
    parts = sizes["train_size"], sizes["validation_size"], sizes.get("test_size")
    data = _load_data(identity, dataset.name, options, parts, data_dir.resolve(), download, device)
    return data if sizes.get("centre_crop") is None else data.cropped(sizes["centre_crop"])


def seen_by(model: Choice, dataset: Choice, data: Data) -> Data:
    """The same data, normalized as the data set's entry asks.

    Raises:
        InputError: the model has no normalization of its own, or another number of channels is given.
    """
    normalize = dataset.settings.get("normalize")
    if normalize is None:
        return data
    mean, std = published_normalization(model.name) if normalize == "pretrained" else normalize.values()
    if normalize == "pretrained" and data.spec.channels == 1:
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    if len(mean) != data.spec.channels:
        raise InputError(f"normalize: has {len(mean)} channels, the images have {data.spec.channels}")
    mean, std = (torch.tensor(values, dtype=torch.float64, device=data.mean.device) for values in (mean, std))
    return replace(data, mean=mean, std=std)


@lru_cache(maxsize=1)
def _load_data(
    identity: str,
    name: str,
    options: str,
    sizes: tuple[int | None, int, int | None],
    data_dir: Path,
    download: bool,
    device: str,
) -> Data:
    if identity in _given:
        return _given[identity].to(device)
    dataset = datasets[name].build(data_dir, download, **json.loads(options))
    if not isinstance(dataset, Dataset):
        raise TypeError(f"data set {name!r} is {type(dataset).__name__}, not a sgabench.datasets.base.Dataset")
    return Data.of(split(dataset, *sizes), device)


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed the global generators, of which initialization and dropout use torch's, and restore them."""
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=devices), seeded_globals(seed):
        torch.manual_seed(seed)
        yield


def initial_network(model: Choice, spec: ImageSpec, seed: int) -> nn.Module:
    """A network before training: the same weights for every optimizer of the same seed."""
    with seeded(derive_seed(seed, "initial weights")):
        network = models[model.name].build(spec, **model.options)
    if not isinstance(network, nn.Module):
        raise TypeError(f"model {model.name!r} returned {type(network).__name__}, not a torch.nn.Module")
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise TypeError(
            f"model {model.name!r} has a TorchScript module, which pruners cannot change; build the torch.nn.Module "
            "that it was made from"
        )
    return network


def precision_on(recipe: Recipe, environment: Mapping[str, Any]) -> Literal["fp32", "bf16"]:
    """The precision that a recipe gets where it is trained."""
    return "bf16" if recipe.precision == "bf16" and environment["bf16"] else "fp32"


def untrained_network(trial: TrialPlan, data: Data) -> nn.Module:
    """A trial's network before training, on the data's device."""
    network = initial_network(trial.model, data.spec, trial.seed)
    return network.to(device=data.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def starting_network(trial: TrialPlan, data: Data) -> nn.Module:
    """The network that a trial begins with, on the data's device: untrained, or a checkpoint.

    Raises:
        InputError: as `load_checkpoint`.
    """
    network = untrained_network(trial, data)
    if trial.checkpoint is not None:
        load_checkpoint(network, trial.checkpoint)
    return network


def train_network(
    network: nn.Module,
    trial: TrialPlan,
    data: Data,
    precision: str,
    on_progress: Callable[[Progress], None],
    snapshots: Snapshots | None = None,
    micro_batches: int = 1,
    watch: Watch | None = None,
    *,
    epochs: range | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> Training:
    """Train a trial's network in place; all randomness follows from the trial's seed.

    Args:
        epochs: a range of the recipe's epochs, with their batches and learning rates; None: all.

    Raises:
        Diverged: as `train`.
    """
    recipe = Recipe.model_validate(trial.optimizer.settings["training"])
    length = {"steps_per_epoch": len(data.train) // recipe.batch_size, "epochs": recipe.epochs}
    optimizer = build_optimizer(trial.optimizer, network, derive_seed(trial.seed, "optimizer"), **length)
    device = data.device.type
    with seeded(derive_seed(trial.seed, "training"), device):
        return train(
            network,
            optimizer,
            data,
            recipe,
            trial.seed,
            precision=precision,
            on_progress=on_progress,
            snapshots=snapshots,
            micro_batches=micro_batches,
            capture=None if data.train.is_streamed else capture_on(device),
            watch=watch,
            epochs=epochs,
            after_step=after_step,
        )


def build_optimizer(
    optimizer: Choice, network: nn.Module, seed: int, *, steps_per_epoch: int = 1, epochs: int = 1
) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters, with weight decay on those that the recipe asks for."""
    parameters = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    kinds = {name: type(network.get_submodule(name.rpartition(".")[0])).__name__ for name, _ in parameters}
    context = TrainingContext(epochs * steps_per_epoch, steps_per_epoch, kinds)
    postpone_dynamo()
    built = optimizers[optimizer.name].build(parameters, seed, context, **optimizer.options)
    if not isinstance(built, torch.optim.Optimizer):
        raise TypeError(f"optimizer {optimizer.name!r} returned {type(built).__name__}, not a torch.optim.Optimizer")
    if optimizer.settings.get("training", {}).get("decay") == "weights":
        decay_weights_only(built)
    return built
