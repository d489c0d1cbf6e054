"""Training loops for measurements: the steps of a trial, alone or several at the same time."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from sgabench.datasets.base import SplitDataset
from sgabench.errors import InputError, describe
from sgabench.plugins import ImageSpec
from sgabench.plugins.registry import load_plugin_file, optimizers
from sgabench.suite.choices import Choice
from sgabench.suite.tables import Recipe
from sgabench.system.environment import PeakMemory, cores
from sgabench.system.processes import ignore_ctrl_c, start
from sgabench.training.building import build_optimizer, initial_network, set_up_torch
from sgabench.training.capture import TIMED_STEPS, WARM_UP_STEPS, Captured, capture_on
from sgabench.training.data import Data
from sgabench.training.progress import synchronize
from sgabench.training.step import Draws, GradientStep

_EPOCH_STEPS = 64  # of random images
_SETTLING_STEPS = WARM_UP_STEPS + 2 * TIMED_STEPS + 2


@dataclass(frozen=True)
class Workload:
    """What is trained: a model on images of a shape, with a recipe's batches and precision, and Adam.

    Attributes:
        plugins: files that a process has to load before it knows the model.
    """

    model: Choice
    spec: ImageSpec
    recipe: Recipe
    plugins: tuple[Path, ...] = ()


class Loop(Protocol):
    """A training that continues for a while at each call."""

    def block(self, seconds: float) -> float:
        """Train for about so many seconds, at least a few steps; returns images/s."""


Make = Callable[[], Loop]


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    """Adam, as sgabench builds it."""
    return build_optimizer(Choice("adam", "adam", optimizers["adam"].resolve({})), network, 0)


class Resident:
    """The steps of a trial: data on the device, in channels-last format, in a precision, captured or not.

    Trials do not use ``compiled``: torch.compile of the network.
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
        """Train for about so many seconds; returns images/s."""
        steps = 0
        synchronize(self._device)
        started = time.perf_counter()
        while steps == 0 or time.perf_counter() - started < seconds:
            self.train(4)
            steps += 4
            if steps % 32 == 0:
                synchronize(self._device)  # launches may be far ahead of execution
        synchronize(self._device)
        return steps * self._batch_size / (time.perf_counter() - started)

    def train(self, steps: int) -> None:
        """Take a number of steps."""
        for _ in range(steps):
            self._step(self._draws[self._taken % _EPOCH_STEPS])
            self._optimizer.step()
            self._taken += 1


class Processes:
    """Trainings at the same time in processes of their own, which share the cores or the GPU.

    Args:
        makes: makes each of them, in its process.
        plugins: files that each process loads first.

    Attributes:
        memory_bytes: sum over the processes of peak memory, without what each used before its training was made.

    Raises:
        Died: a process could not go on, out of memory for example.
    """

    def __init__(self, makes: Sequence[Make], device: str, plugins: Sequence[Path] = ()) -> None:
        context = multiprocessing.get_context("spawn")
        self._workers: list[Any] = []
        self._processes: list[Any] = []
        try:
            for make in makes:
                here, there = context.Pipe()
                self._workers.append(here)
                with there:
                    process = context.Process(target=_serve, args=(there, make, device, plugins))
                    start(process)
                self._processes.append(process)
            self.memory_bytes = sum(self._gather())
        except BaseException:
            self.close()
            raise

    def block(self, seconds: float) -> float:
        """Let all of them train for about so many seconds; returns their total images/s."""
        for worker in self._workers:
            worker.send(seconds)
        return float(sum(self._gather()))

    def _gather(self) -> list[Any]:
        try:
            answers = [worker.recv() for worker in self._workers]
        except (EOFError, OSError) as error:
            raise Died("a process ended") from error
        death = next((answer for answer in answers if isinstance(answer, str)), None)
        if death is not None:
            raise Died(death)
        return answers

    def close(self) -> None:
        """End the processes by closing the connections to them."""
        for worker in self._workers:
            worker.close()
        for process in self._processes:
            process.join()


class Died(RuntimeError):
    """A process could not go on; the message says why, as far as it is known."""


def trials_at_once(number: int, work: Workload, device: str, precision: str, *, captured: bool = True) -> Processes:
    """The steps of several trials, each with its share of the cores."""
    make = partial(_trial, work, device, precision, max(1, cores() // number), captured)
    return Processes([make] * number, device, work.plugins)


def _trial(work: Workload, device: str, precision: str, threads: int, captured: bool) -> Resident:
    set_up_torch(device, threads)
    return Resident(work, device, precision, captured=captured)


def _serve(connection: Any, make: Make, device: str, plugins: Sequence[Path]) -> None:
    ignore_ctrl_c()  # the parent ends this process by closing the connection
    try:
        for plugin in plugins:
            load_plugin_file(plugin)
        used = PeakMemory(device)
        loop = make()
        loop.block(0)
        connection.send(used.growth())
        while True:
            connection.send(loop.block(connection.recv()))
    except (EOFError, OSError):
        return  # the parent is gone
    except (MemoryError, RuntimeError, InputError) as error:  # anything else ends the process, with its traceback
        connection.send(describe(error))
