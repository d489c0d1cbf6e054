"""Training loops that are measured: the one that everyone writes, and sgabench's, alone or several at a time."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sgabench.building import build_optimizer, initial_network, set_up_torch
from sgabench.capture import TIMED_STEPS, WARM_UP_STEPS, Captured, capture_on
from sgabench.datasets.base import SplitDataset
from sgabench.environment import cores
from sgabench.registry import optimizers
from sgabench.specs import ImageSpec
from sgabench.step import Draws, GradientStep
from sgabench.suite import Choice, Recipe
from sgabench.training import Data

SPEC = ImageSpec(channels=3, height=32, width=32, classes=10)
RECIPE = Recipe(epochs=1, batch_size=128, augmentation=("crop", "flip"), precision="bf16")
# Enough to fill the workers' queues and empty them, few enough to take turns with others.
_LOADER_STEPS = {"cpu": 8, "cuda": 64}
_LOADER_WORKERS = 2
_EPOCH_STEPS = 64
_SETTLING_STEPS = WARM_UP_STEPS + 2 * TIMED_STEPS + 2


class Loop(Protocol):
    """A training that goes on for a while whenever it is told to."""

    def block(self, seconds: float) -> float:
        """Train for about so long, at least a few steps; images/s."""


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    """Adam, as sgabench builds it."""
    return build_optimizer(Choice("adam", "adam", optimizers["adam"].resolve({})), network, 0)


class Photographs(Dataset[tuple[Tensor, int]]):
    """Random images, decoded and augmented one by one, as tutorials do it."""

    def __init__(self, number: int) -> None:
        random = np.random.default_rng(0)
        self._images = random.integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)
        self._labels = random.integers(0, 10, number)
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image: Tensor = self._transform(Image.fromarray(self._images[index]))
        return image, int(self._labels[index])


class LoaderLoop:
    """A DataLoader over transforms of PIL images, float32, row-major tensors, torch.optim as it comes."""

    def __init__(self, model: Choice, device: str) -> None:
        self._device = device
        self._network = initial_network(model, SPEC, 0).to(device)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=1e-3)
        self._loader = DataLoader(
            Photographs(RECIPE.batch_size * _LOADER_STEPS[device]),
            RECIPE.batch_size,
            shuffle=True,
            num_workers=_LOADER_WORKERS,
            persistent_workers=True,
            pin_memory=device == "cuda",
        )

    def block(self, seconds: float) -> float:
        """Train for whole epochs, so that no batch is ready when the clock starts."""
        images = 0
        _wait(self._device)
        started = time.perf_counter()
        while images == 0 or time.perf_counter() - started < seconds:
            for batch, labels in self._loader:
                batch, labels = batch.to(self._device), labels.to(self._device)
                self._optimizer.zero_grad()
                F.cross_entropy(self._network(batch), labels).backward()  # type: ignore[no-untyped-call]
                self._optimizer.step()
                images += len(labels)
            _wait(self._device)
        return images / (time.perf_counter() - started)


class Resident:
    """The steps of a trial: data on the device, channels last in memory, in a precision, captured or not.

    Compiled, which trials are not, the network is one of torch.compile's.
    """

    def __init__(
        self, model: Choice, device: str, precision: str, *, captured: bool = True, compiled: bool = False
    ) -> None:
        self._device = device
        generator = torch.Generator().manual_seed(0)
        number = RECIPE.batch_size * _EPOCH_STEPS
        images = torch.randint(0, 256, (number, 3, 32, 32), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 10, (number,), generator=generator)
        classes = tuple(map(str, range(10)))
        none = images[:1], labels[:1]
        data = Data.of(SplitDataset("random", classes, images, labels, *none, *none), device)
        network = initial_network(model, SPEC, 0)
        self._network = network.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._optimizer = optimizer_of(self._network)
        if compiled:
            self._network.compile()
        gradients = GradientStep(self._network, data, RECIPE, precision)
        how = capture_on(device) if captured else None
        self._step = Captured(gradients, how, 10**9, device)
        self._draws = Draws.of(RECIPE, 0, 0, number, device)
        self._taken = 0
        if not compiled:
            self.train(_SETTLING_STEPS if how else 2)

    def block(self, seconds: float) -> float:
        """Train for about so long."""
        steps = 0
        _wait(self._device)
        started = time.perf_counter()
        while steps == 0 or time.perf_counter() - started < seconds:
            self.train(4)
            steps += 4
            if steps % 32 == 0:
                _wait(self._device)  # what has been launched may be far ahead of what is done
        _wait(self._device)
        return steps * RECIPE.batch_size / (time.perf_counter() - started)

    def train(self, steps: int) -> None:
        """Take so many steps."""
        for _ in range(steps):
            self._step(self._draws[self._taken % _EPOCH_STEPS])
            self._optimizer.step()
            self._taken += 1


class Concurrent:
    """Several trainings at the same time, in processes of their own that share the cores or the GPU."""

    def __init__(self, number: int, model: Choice, device: str, precision: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._stack = ExitStack()
        self._workers: list[Any] = []
        for _ in range(number):
            here, there = context.Pipe()
            task = (there, model, device, precision, max(1, cores() // number))
            process = context.Process(target=_train_in_process, args=task, daemon=True)
            process.start()
            there.close()
            self._stack.callback(process.join)
            self._stack.callback(here.close)
            self._workers.append(here)
        for worker in self._workers:
            worker.recv()

    def block(self, seconds: float) -> float:
        """Let all of them train for about so long; images/s of all together."""
        for worker in self._workers:
            worker.send(seconds)
        speeds: list[float] = [worker.recv() for worker in self._workers]
        return sum(speeds)

    def close(self) -> None:
        """End the processes."""
        self._stack.close()


def _train_in_process(connection: Any, model: Choice, device: str, precision: str, threads: int) -> None:
    set_up_torch(device, threads)
    loop = Resident(model, device, precision)
    connection.send(None)
    try:
        while True:
            connection.send(loop.block(connection.recv()))
    except (EOFError, OSError):
        return


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
