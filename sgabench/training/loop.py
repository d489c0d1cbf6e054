"""The training loop: epochs of steps, with snapshots."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from sgabench.errors import InputError
from sgabench.optimizers.declared import needs_closure
from sgabench.suite.tables import Recipe
from sgabench.system.seeds import restore_globals, state_of_globals
from sgabench.training.capture import Capture, Captured
from sgabench.training.data import Data
from sgabench.training.distillation import Teacher
from sgabench.training.evaluation import evaluate
from sgabench.training.modes import Modes
from sgabench.training.progress import Clock, Progress, progress_of
from sgabench.training.schedule import learning_rate_factor
from sgabench.training.snapshot import Snapshots
from sgabench.training.step import Draws, GradientStep
from sgabench.training.watching import Watch

_ERROR = 2  # torch's debug mode in which nondeterministic operations raise


class Diverged(ArithmeticError):
    """The loss or the weights are no longer finite."""


@dataclass(frozen=True)
class Training:
    """The results of a training, beside the network.

    Attributes:
        history: a row per epoch: loss and top-1 of the (augmented) training batches, learning rate
            of its last step, its seconds, and loss and top-1 of the validation split if there is one.
        seconds: time of all steps, without evaluations of the validation split.
        images: number trained on, over all epochs.
        passes: forward and backward passes; several per step where the optimizer has a closure.
        interruptions: how often it was stopped and resumed.
        seconds_before: the part of ``seconds`` before it was last resumed.
    """

    history: list[dict[str, float]]
    seconds: float
    images: int
    passes: int
    interruptions: int
    seconds_before: float

    def numbers(self) -> dict[str, float]:
        """The fields for a record; empty if nothing was trained."""
        if not self.history:
            return {}
        return {
            "train_loss": self.history[-1]["loss"],
            "train_top1": self.history[-1]["top1"],
            "train_seconds": self.seconds,
            "train_passes": self.passes,
            "train_images_per_s": self.images / self.seconds,
            "interruptions": self.interruptions,
        }


NO_TRAINING = Training([], 0.0, 0, 0, 0, 0.0)


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Data,
    recipe: Recipe,
    seed: int,
    *,
    precision: str,
    after_step: Callable[[], None] = lambda: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    snapshots: Snapshots | None = None,
    micro_batches: int = 1,
    capture: Capture | None = None,
    watch: Watch | None = None,
    teacher: Teacher | None = None,
    epochs: range | None = None,
    after_exchange: Callable[[], None] | None = None,
) -> Training:
    """Train a network in place; an interrupted training continues from its snapshot.

    Args:
        network: on the data's device.
        optimizer: of the network's parameters; its learning rates are the schedule's base. One that needs a closure
            gets one; the gradients of the batch are computed before its step, as for any other. One that has `train`
            and `eval` is in the first mode for the steps, in the second for evaluation and at the end.
        data: the training split is trained on; a validation split is evaluated after each epoch.
        recipe: with ``precision`` resolved for the device by the caller.
        seed: data order and augmentation follow only from it and the epoch.
        after_step: called after every step, e.g. to keep pruned weights at zero.
        on_progress: called about twice a second.
        snapshots: of this training; None: it has none.
        micro_batches: parts of a batch that are in memory one after the other.
        capture: captures the passes of a step; None: they are executed normally.
        watch: is called around every step, and is part of the snapshots.
        teacher: that the network learns from in addition to the labels.
        epochs: a range of the recipe's epochs; None: all.
        after_exchange: called after an optimizer's modes have changed the weights; None: ``after_step``.

    Raises:
        Diverged: the loss of an epoch is not finite.
        KeyboardInterrupt, Terminated: the process was asked to stop, and the snapshot is on disk.
        InputError: the training split is smaller than a batch.
    """
    device = data.device.type
    if len(data.train) < recipe.batch_size:
        raise InputError(
            f"training.batch_size: {recipe.batch_size} is larger than the training split ({len(data.train)} images)"
        )
    steps = len(data.train) // recipe.batch_size
    part = range(recipe.epochs) if epochs is None else epochs
    factor = learning_rate_factor(recipe, steps)
    schedule = LambdaLR(optimizer, lambda step: factor(part.start * steps + step))
    average = None
    if recipe.weight_averaging == "ema":
        average = AveragedModel(network, multi_avg_fn=_moving_average(recipe.ema_decay), use_buffers=True)
    gradients = GradientStep(network, data, recipe, precision, micro_batches, teacher)
    run = _Run(network, optimizer, schedule, average, gradients, device, part.start)
    modes = Modes(network, optimizer, data, recipe.batch_size, seed, after_exchange or after_step)
    closure: Any = (gradients.again,) if needs_closure(optimizer) else ()
    if watch is not None:
        run.keep("watch", watch)
    if snapshots is not None and (saved := snapshots.load()) is not None:
        run.restore(saved)
    with snapshots.listening() if snapshots is not None else nullcontext(), deterministic(recipe.deterministic):
        left = (part.stop - run.epoch) * steps - run.step
        take_step = Captured(gradients, None if closure else capture, left, device)
        for epoch in range(run.epoch, part.stop):
            modes.train()
            draws = Draws.of(recipe, seed, epoch, len(data.train), device)
            run.clock.start()
            for step in range(run.step, steps):
                take_step(draws[step])
                if watch is not None:
                    watch.before_step()
                optimizer.step(*closure)
                if watch is not None:
                    watch.after_step(epoch)
                run.lr = float(
                    optimizer.param_groups[0]["lr"]
                )  # it may be a tensor, which the schedule changes in place
                schedule.step()
                after_step()
                if average is not None:
                    average.update_parameters(network)
                run.step = step + 1
                if run.clock.time_to_report():
                    on_progress(run.progress(recipe, steps))
                if snapshots is not None and snapshots.due():
                    snapshots.save(run.state())
            run.clock.stop()
            loss_mean, top1 = (run.totals / steps).tolist()
            if not math.isfinite(loss_mean):
                raise Diverged(f"the training loss of epoch {epoch + 1} is {loss_mean}")
            row = {"epoch": epoch + 1, "loss": loss_mean, "top1": top1, "lr": run.lr}
            row["seconds"] = run.clock.seconds - sum(earlier["seconds"] for earlier in run.history)
            if len(data.validation):
                with modes.evaluating():
                    found = evaluate(network, data, data.validation, precision)
                row["validation_top1"], row["validation_loss"] = found.top1, found.loss
            run.history.append(row)
            on_progress(run.progress(recipe, steps))
            run.next_epoch()
            if snapshots is not None and (snapshots.due() or epoch + 1 == recipe.epochs):
                snapshots.save(run.state())  # once more, so that a stop before the record is stored loses nothing
    modes.evaluate()
    if average is not None and part.stop == recipe.epochs:
        network.load_state_dict(average.module.state_dict())
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise Diverged("the last step left weights that are not finite")
    number = len(part) * steps * recipe.batch_size
    return Training(run.history, run.clock.seconds, number, gradients.number, run.interruptions, run.seconds_before)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Refuse operations that torch knows to be nondeterministic, if ``enabled``."""
    before = torch.get_deterministic_debug_mode()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    _set_deterministic(_ERROR if enabled else before)
    memory.fill_uninitialized_memory = fill and not enabled  # nothing here reads uninitialized memory
    try:
        yield
    finally:
        _set_deterministic(before)
        memory.fill_uninitialized_memory = fill


def _set_deterministic(mode: int) -> None:
    # The usual function also sets it in torch's compiler, which it imports; code that compiles has imported it already.
    if "torch._inductor" in sys.modules:
        torch.use_deterministic_algorithms(mode > 0, warn_only=mode == 1)
    else:
        torch.set_deterministic_debug_mode(mode)


class _Run:
    """The state of a training: all that its next step depends on."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: LambdaLR,
        average: AveragedModel | None,
        gradients: GradientStep,
        device: str,
        epoch: int,
    ) -> None:
        self._parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule}
        if average is not None:
            self._parts["average"] = average
        self._device = device
        self._gradients = gradients
        self.totals = gradients.totals
        self.clock = Clock(device)
        self.epoch = epoch
        self.step = 0
        self.lr = 0.0
        self.history: list[dict[str, float]] = []
        self.interruptions = 0
        self.seconds_before = 0.0

    def keep(self, name: str, part: Any) -> None:
        """Include an object with a state dict in the snapshots."""
        self._parts[name] = part

    def next_epoch(self) -> None:
        self.epoch, self.step = self.epoch + 1, 0
        self.totals.zero_()

    def progress(self, recipe: Recipe, steps: int) -> Progress:
        return progress_of(self.clock, recipe, self.epoch, self.step, steps, float(self.totals[0]) / self.step)

    def state(self) -> dict[str, Any]:
        """The content of a snapshot; data order and augmentation are functions of the epoch and are not in it."""
        return {
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "position": (self.epoch, self.step, self.lr, self.clock.seconds, self.interruptions),
            "passes": self._gradients.number,
            "history": self.history,
            "totals": self.totals,
            "random": torch.get_rng_state(),
            "random_elsewhere": state_of_globals(),
            "random_on_device": torch.cuda.get_rng_state() if self._device == "cuda" else None,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Return to the state of a snapshot."""
        for name, part in self._parts.items():
            part.load_state_dict(saved["parts"][name])
        self.epoch, self.step, self.lr, self.seconds_before, interruptions = saved["position"]
        self.interruptions = interruptions + 1
        self._gradients.number = saved["passes"]
        self.clock = Clock(self._device, self.seconds_before)
        self.history = saved["history"]
        self.totals.copy_(saved["totals"])
        torch.set_rng_state(saved["random"])
        restore_globals(saved["random_elsewhere"])
        if saved["random_on_device"] is not None:
            torch.cuda.set_rng_state(saved["random_on_device"])


def _moving_average(decay: float) -> Callable[..., None]:
    """Exponential moving average for `AveragedModel`; integers (counters, indices) are copied."""

    def update(averages: list[Tensor], values: list[Tensor], _: Any) -> None:
        if averages[0].is_floating_point():  # AveragedModel gives tensors of one type at a time
            torch._foreach_lerp_(averages, values, 1 - decay)
        else:
            torch._foreach_copy_(averages, values)

    return update
