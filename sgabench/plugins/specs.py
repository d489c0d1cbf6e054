"""What plugins are given: small descriptions that can be made without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

_T = TypeVar("_T")


@dataclass(frozen=True)
class ImageSpec:
    """What a model must accept and return.

    Attributes:
        channels: colour channels of an image.
        height: rows.
        width: columns.
        classes: number of classes, the length of a model's output.
    """

    channels: int
    height: int
    width: int
    classes: int


@dataclass(frozen=True)
class TrainingContext:
    """The context of an optimizer, beside the parameters and its seed.

    Attributes:
        steps: number of steps of the whole training.
        steps_per_epoch: number of steps of an epoch.
        kinds: class of the module that each parameter belongs to, e.g. ``Conv2d``, by the parameter's name.
    """

    steps: int
    steps_per_epoch: int
    kinds: Mapping[str, str]


class Once(Protocol):
    """Returns what a function makes, computed at the first call with that name."""

    def __call__(self, name: str, make: Callable[[], _T]) -> _T: ...


def _at_every_call(name: str, make: Callable[[], _T]) -> _T:
    return make()


class Evaluate(Protocol):
    """Returns accuracy and loss of a network on the test split, without giving access to its labels."""

    def __call__(
        self, network: nn.Module, change: Callable[[Tensor, int], Tensor] | None = None
    ) -> dict[str, float]: ...


class TrainingProbe(Protocol):
    """Returned by a probe of a training: it is called around every step, and must not change anything.

    Its state is part of the training's snapshots: tensors, numbers, texts and None in dictionaries, lists and tuples.
    """

    def before_step(self) -> None:
        """The gradients are computed; the optimizer is about to step."""

    def after_step(self, epoch: int) -> None:
        """The optimizer has stepped, in this epoch (counted from 0)."""

    def state_dict(self) -> dict[str, Any]:
        """The state that it needs to continue."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""

    def result(self) -> dict[str, Any]:
        """The result, as JSON values, after the last step."""


@dataclass(frozen=True)
class PruningContext:
    """The context of a pruner, beside the network and the ratio.

    Attributes:
        images: the shape of the network's input.
        seed: for pruners that draw random numbers.
        batches: normalized images (N, C, H, W) and labels (N,) of the training split, on the
            network's device, the same ones in the same order at every call.
        excluded: names of weights or modules that no pruner may change (the input layer and the classifier,
            unless the suite includes them).
        once: ``once(name, make)`` is ``make()``, called once for all ratios of the pruner with the same
            options on the same trained network. The result must not depend on the ratio. In a context made
            by hand, ``make`` is called every time.
        notes: JSON values that the pruner writes here become part of the cell's record.
        initial: makes the network as it was before its training; None if that is unknown.
        pruner: in probes of a pruned network: the label of its pruner; else None.
        ratio: in probes of a pruned network: its requested ratio; else None.
        evaluate: in probes of a dense or pruned network: ``evaluate(network, change)`` returns ``top1``, ``loss``, and
            ``top5`` with at least 20 classes, on the test split; ``change(images, first)`` transforms a batch, uint8
            (N, C, H, W), given the position of its first image, before it is normalized. Else None.
    """

    images: ImageSpec
    seed: int
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    excluded: frozenset[str]
    once: Once = _at_every_call
    notes: dict[str, Any] = field(default_factory=dict)
    initial: Callable[[], nn.Module] | None = None
    pruner: str | None = None
    ratio: float | None = None
    evaluate: Evaluate | None = None
