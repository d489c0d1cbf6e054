"""The training loop: data order, schedule, step, evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from sgabench.datasets import augmentation
from sgabench.datasets.base import SplitDataset, channel_statistics
from sgabench.errors import InputError
from sgabench.plugins import ImageSpec
from sgabench.suite.tables import Recipe
from sgabench.training.capture import Capture, Captured
from sgabench.training.snapshot import Snapshots
from sgabench.training.step import Draws, GradientStep, autocast

EVALUATION_BATCH = 500
PROGRESS_SECONDS = 0.5


class Diverged(ArithmeticError):
    """The loss is not a finite number any more."""


@dataclass(frozen=True)
class Images:
    """One split on the training device.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """A data set on the training device, with what normalizes it.

    Attributes:
        train, validation, test: the splits; validation may be empty.
        mean, std: float64 (C,), of the training split, for pixels in [0, 1].
    """

    spec: ImageSpec
    train: Images
    validation: Images
    test: Images
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, splits: SplitDataset, device: str) -> Data:
        """Move a data set's splits to a device and compute the constants of the training split."""
        mean, std = channel_statistics(splits.train_images)

        def on_device(images: Tensor, labels: Tensor) -> Images:
            return Images(images.to(device), labels.to(device))

        return cls(
            splits.spec,
            on_device(splits.train_images, splits.train_labels),
            on_device(splits.validation_images, splits.validation_labels),
            on_device(splits.test_images, splits.test_labels),
            mean.to(device),
            std.to(device),
        )

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) to what the network sees, channels last in memory."""
        return augmentation.normalize(images, self.mean, self.std).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        epoch: epochs that are finished, with the part of the present one.
        loss: mean training loss of the present epoch so far.
        images_per_s: since the start of the training.
        seconds_left: estimated from the speed so far.
    """

    epoch: float
    epochs: int
    loss: float
    images_per_s: float
    seconds_left: float


@dataclass(frozen=True)
class Training:
    """What came out of a training, beside the network.

    Attributes:
        history: a row per epoch: loss and top-1 of the (augmented) training batches, learning rate
            of its last step, its seconds, and loss and top-1 of the validation split if there is one.
        seconds: time of all steps, evaluation of the validation split left out.
        images: how many were trained on, all epochs together.
        interruptions: how often it was stopped and taken up again.
        seconds_before: of ``seconds``, those before it was taken up again.
    """

    history: list[dict[str, float]]
    seconds: float
    images: int
    interruptions: int
    seconds_before: float


def learning_rate_factor(recipe: Recipe, steps_per_epoch: int) -> Callable[[int], float]:
    """The schedule: a function of the step (from 0) to the factor of the base learning rate.

    ``cosine`` falls to zero after the warm-up; ``one-cycle`` rises from 1/25 to 1 over the first 30 %
    and falls to 1e-4, along half cosines (Smith & Topin, arXiv 1708.07120, as in torch's OneCycleLR).
    """
    total = recipe.epochs * steps_per_epoch
    warmup = round(recipe.warmup_epochs * steps_per_epoch)

    def half_cosine(start: float, end: float, fraction: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * min(fraction, 1.0))) / 2

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, total - warmup)
        if recipe.schedule == "cosine":
            return half_cosine(1, 0, done)
        if recipe.schedule == "step":
            return math.prod(recipe.step_factor for milestone in recipe.step_milestones if step >= milestone * total)
        if recipe.schedule == "one-cycle":
            return half_cosine(1 / 25, 1, done / 0.3) if done < 0.3 else half_cosine(1, 1e-4, (done - 0.3) / 0.7)
        return 1.0

    return factor


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
) -> Training:
    """Train a network in place; a training that was stopped goes on from its snapshot.

    Args:
        network: on the data's device.
        optimizer: over the network's parameters; its learning rates are the schedule's base.
        data: the training split is trained on; a validation split is evaluated after each epoch.
        recipe: all but ``precision``, which the caller has resolved for the device.
        seed: data order and augmentation follow from it and the epoch alone.
        after_step: called after every step, e.g. to keep pruned weights at zero.
        on_progress: called about twice a second.
        snapshots: where its snapshots are, if it has any.
        micro_batches: parts of a batch that are in memory one after the other.
        capture: captures the passes of a step; None: they are done as they are.

    Raises:
        Diverged: the loss of an epoch is not finite.
        KeyboardInterrupt, Terminated: the process was asked to stop, and the snapshot is on disk.
        InputError: the training split is smaller than a batch.
    """
    device = data.train.images.device.type
    if len(data.train) < recipe.batch_size:
        raise InputError(
            f"training.batch_size: {recipe.batch_size} is larger than the training split ({len(data.train)} images)"
        )
    steps = len(data.train) // recipe.batch_size
    schedule = LambdaLR(optimizer, learning_rate_factor(recipe, steps))
    average = None
    if recipe.weight_averaging == "ema":
        average = AveragedModel(network, multi_avg_fn=_moving_average(recipe.ema_decay), use_buffers=True)
    gradients = GradientStep(network, data, recipe, precision, micro_batches)
    run = _Run(network, optimizer, schedule, average, gradients.totals, device)
    if snapshots is not None and (saved := snapshots.load()) is not None:
        run.restore(saved)
    with snapshots.listening() if snapshots is not None else nullcontext(), deterministic(recipe.deterministic):
        left = (recipe.epochs - run.epoch) * steps - run.step
        take_step = Captured(gradients, capture, left, device)
        for epoch in range(run.epoch, recipe.epochs):
            network.train()
            draws = Draws.of(recipe, seed, epoch, len(data.train), device)
            run.clock.start()
            for step in range(run.step, steps):
                take_step(draws[step])
                optimizer.step()
                run.lr = optimizer.param_groups[0]["lr"]
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
                row["validation_top1"], row["validation_loss"] = evaluate(network, data, data.validation, precision)
            run.history.append(row)
            on_progress(run.progress(recipe, steps))
            run.next_epoch()
            if snapshots is not None and (snapshots.due() or epoch + 1 == recipe.epochs):
                snapshots.save(run.state())  # the last one, so that a stop before the record is stored loses nothing
    if average is not None:
        network.load_state_dict(average.module.state_dict())
    network.eval()
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise Diverged("the last step left weights that are not finite")
    number = recipe.epochs * steps * recipe.batch_size
    return Training(run.history, run.clock.seconds, number, run.interruptions, run.seconds_before)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Refuse operations of which torch knows that they need not give the same bits again, if that is wanted."""
    before = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(wanted or before)
    memory.fill_uninitialized_memory = fill and not wanted  # nothing here reads what it has not set
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = fill


class _Run:
    """Where a training is: all that its next step depends on."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: LambdaLR,
        average: AveragedModel | None,
        totals: Tensor,
        device: str,
    ) -> None:
        self._parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule}
        if average is not None:
            self._parts["average"] = average
        self._device = device
        self.totals = totals
        self.clock = _Clock(device)
        self.epoch = 0
        self.step = 0
        self.lr = 0.0
        self.history: list[dict[str, float]] = []
        self.interruptions = 0
        self.seconds_before = 0.0

    def next_epoch(self) -> None:
        self.epoch, self.step = self.epoch + 1, 0
        self.totals.zero_()

    def progress(self, recipe: Recipe, steps: int) -> Progress:
        return _progress(self.clock, recipe, self.epoch, self.step, steps, float(self.totals[0]) / self.step)

    def state(self) -> dict[str, Any]:
        """What a snapshot holds; data order and augmentation are functions of the epoch and need no place in it."""
        return {
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "position": (self.epoch, self.step, self.lr, self.clock.seconds, self.interruptions),
            "history": self.history,
            "totals": self.totals,
            "random": torch.get_rng_state(),
            "random_on_device": torch.cuda.get_rng_state() if self._device == "cuda" else None,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to where a snapshot was taken."""
        for name, part in self._parts.items():
            part.load_state_dict(saved["parts"][name])
        _lay_out_like_parameters(self._parts["optimizer"])
        self.epoch, self.step, self.lr, self.seconds_before, interruptions = saved["position"]
        self.interruptions = interruptions + 1
        self.clock = _Clock(self._device, self.seconds_before)
        self.history = saved["history"]
        self.totals.copy_(saved["totals"])
        torch.set_rng_state(saved["random"])
        if saved["random_on_device"] is not None:
            torch.cuda.set_rng_state(saved["random_on_device"])


def _lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the strides of their parameters again, which a file does not keep; kernels are chosen by them."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def evaluate(network: nn.Module, data: Data, split: Images, precision: str) -> tuple[float, float]:
    """Top-1 (fraction) and mean cross-entropy of a split."""
    return evaluate_batches(network, batches(data, split, EVALUATION_BATCH), precision)


def evaluate_batches(network: nn.Module, of: Iterable[tuple[Tensor, Tensor]], precision: str) -> tuple[float, float]:
    """Top-1 (fraction) and mean cross-entropy of normalized batches; correct answers are counted, then divided once."""
    network.eval()
    correct: Tensor | int = 0
    loss: Tensor | float = 0.0
    number = 0
    with torch.inference_mode():
        for images, labels in of:
            with autocast(images.device.type, precision):
                logits = network(images)
            correct += (logits.argmax(1) == labels).sum()
            loss += F.cross_entropy(logits.float(), labels, reduction="sum")
            number += len(labels)
    return int(correct) / number, float(loss) / number


def batches(data: Data, split: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalized images and labels of a split, in its order."""
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        yield data.normalize(split.images[part]), split.labels[part]


def _moving_average(decay: float) -> Callable[..., None]:
    """Exponential moving average for `AveragedModel`; what counts or points (integers) is taken as it is."""

    def update(averages: list[Tensor], values: list[Tensor], _: Any) -> None:
        if averages[0].is_floating_point():  # AveragedModel gives tensors of one type at a time
            torch._foreach_lerp_(averages, values, 1 - decay)
        else:
            torch._foreach_copy_(averages, values)

    return update


class _Clock:
    """Adds up the time of training steps, synchronized with the device."""

    def __init__(self, device: str, seconds: float = 0.0) -> None:
        self._device = device
        self._finished = seconds
        self._started: float | None = None
        self._reported = 0.0

    def start(self) -> None:
        _synchronize(self._device)
        self._started = time.perf_counter()

    def stop(self) -> None:
        _synchronize(self._device)
        self._finished, self._started = self.seconds, None

    @property
    def seconds(self) -> float:
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._finished + running

    def time_to_report(self) -> bool:
        now = time.perf_counter()
        if now - self._reported < PROGRESS_SECONDS:
            return False
        self._reported = now
        return True


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _progress(clock: _Clock, recipe: Recipe, epoch: int, step: int, steps: int, loss: float) -> Progress:
    done = epoch * steps + step
    per_step = clock.seconds / done
    left = (recipe.epochs * steps - done) * per_step
    return Progress(done / steps, recipe.epochs, loss, recipe.batch_size / per_step, left)
