"""Trainings that are measured: the steps of a trial, alone, or several at the same time."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from sgabench.building import build_optimizer, initial_network, set_up_torch
from sgabench.capture import TIMED_STEPS, WARM_UP_STEPS, Captured, capture_on
from sgabench.datasets.base import SplitDataset
from sgabench.environment import cores
from sgabench.registry import load_plugin_file, optimizers
from sgabench.specs import ImageSpec
from sgabench.step import Draws, GradientStep
from sgabench.suite import Choice, Recipe
from sgabench.training import Data

# Steps of an epoch of random images.
_EPOCH_STEPS = 64
_SETTLING_STEPS = WARM_UP_STEPS + 2 * TIMED_STEPS + 2


@dataclass(frozen=True)
class Workload:
    """What is trained: the passes of a model on images of a form, with a recipe's batches, and Adam.

    Attributes:
        plugins: files that a process has to load before it knows the model.
    """

    model: Choice
    spec: ImageSpec
    recipe: Recipe
    plugins: tuple[Path, ...] = ()


class Loop(Protocol):
    """A training that goes on for a while whenever it is told to."""

    def block(self, seconds: float) -> float:
        """Train for about so long, at least a few steps; images/s."""


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    """Adam, as sgabench builds it."""
    return build_optimizer(Choice("adam", "adam", optimizers["adam"].resolve({})), network, 0)


class Resident:
    """The steps of a trial: data on the device, channels last in memory, in a precision, captured or not.

    Compiled, which trials are not, the network is one of torch.compile's.
    """

    def __init__(
        self, work: Workload, device: str, precision: str, *, captured: bool = True, compiled: bool = False
    ) -> None:
        self._device = device
        self._batch_size = work.recipe.batch_size
        generator = torch.Generator().manual_seed(0)
        spec, number = work.spec, self._batch_size * _EPOCH_STEPS
        shape = (number, spec.channels, spec.height, spec.width)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, spec.classes, (number,), generator=generator)
        classes = tuple(map(str, range(spec.classes)))
        none = images[:1], labels[:1]
        data = Data.of(SplitDataset("random", classes, images, labels, *none, *none), device)
        network = initial_network(work.model, spec, 0)
        self._network = network.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._optimizer = optimizer_of(self._network)
        if compiled:
            self._network.compile()
        gradients = GradientStep(self._network, data, work.recipe, precision)
        how = capture_on(device) if captured else None
        self._step = Captured(gradients, how, 10**9, device)
        self._draws = Draws.of(work.recipe, 0, 0, number, device)
        self._taken = 0
        if not compiled:
            self.train(_SETTLING_STEPS if how else 2)

    def block(self, seconds: float) -> float:
        """Train for about so long."""
        steps = 0
        wait(self._device)
        started = time.perf_counter()
        while steps == 0 or time.perf_counter() - started < seconds:
            self.train(4)
            steps += 4
            if steps % 32 == 0:
                wait(self._device)  # what has been launched may be far ahead of what is done
        wait(self._device)
        return steps * self._batch_size / (time.perf_counter() - started)

    def train(self, steps: int) -> None:
        """Take so many steps."""
        for _ in range(steps):
            self._step(self._draws[self._taken % _EPOCH_STEPS])
            self._optimizer.step()
            self._taken += 1


class Concurrent:
    """Several trainings at the same time, in processes of their own that share the cores or the GPU.

    Raises:
        Died: a process ended, out of memory for example.
    """

    def __init__(self, number: int, work: Workload, device: str, precision: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._stack = ExitStack()
        self._workers: list[Any] = []
        for _ in range(number):
            here, there = context.Pipe()
            task = (there, work, device, precision, max(1, cores() // number))
            process = context.Process(target=_train_in_process, args=task, daemon=True)
            process.start()
            there.close()
            self._stack.callback(process.join)
            self._stack.callback(here.close)
            self._workers.append(here)
        self._gather()

    def block(self, seconds: float) -> float:
        """Let all of them train for about so long; images/s of all together."""
        for worker in self._workers:
            worker.send(seconds)
        return float(sum(self._gather()))

    def _gather(self) -> list[Any]:
        try:
            return [worker.recv() for worker in self._workers]
        except (EOFError, OSError) as error:
            self.close()
            raise Died from error

    def close(self) -> None:
        """End the processes."""
        self._stack.close()


class Died(RuntimeError):
    """A process of several ended by itself."""


def _train_in_process(connection: Any, work: Workload, device: str, precision: str, threads: int) -> None:
    for plugin in work.plugins:
        load_plugin_file(plugin)
    set_up_torch(device, threads)
    try:
        loop = Resident(work, device, precision)
        connection.send(None)
        while True:
            connection.send(loop.block(connection.recv()))
    except Exception:  # who asked is gone, or there is not enough of something: the end of the process says it
        raise SystemExit(1) from None


def wait(device: str) -> None:
    """Until the device has done all that was launched."""
    if device == "cuda":
        torch.cuda.synchronize()
