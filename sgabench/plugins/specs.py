"""What plugins are told: small descriptions that need no torch to be made."""

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
    """What an optimizer is told beside the parameters and its seed.

    Attributes:
        steps: of the whole training.
        steps_per_epoch: of an epoch.
        kinds: by the name of each parameter, the class of the module that it belongs to, e.g. ``Conv2d``.
    """

    steps: int
    steps_per_epoch: int
    kinds: Mapping[str, str]


class Once(Protocol):
    """Gives what a function makes, made at the first call with that name."""

    def __call__(self, name: str, make: Callable[[], _T]) -> _T: ...


def _at_every_call(name: str, make: Callable[[], _T]) -> _T:
    return make()


class Evaluate(Protocol):
    """Gives accuracy and loss of a network on the test split, whose labels stay out of reach."""

    def __call__(
        self, network: nn.Module, change: Callable[[Tensor, int], Tensor] | None = None
    ) -> dict[str, float]: ...


class TrainingProbe(Protocol):
    """What a probe of a training returns: it is called around every step, in place, and must change nothing.

    Its state is part of the training's snapshots: tensors, numbers, texts and None in dictionaries, lists and tuples.
    """

    def before_step(self) -> None:
        """Gradients are there; the optimizer is about to step."""

    def after_step(self, epoch: int) -> None:
        """The optimizer has stepped, in this epoch (from 0)."""

    def state_dict(self) -> dict[str, Any]:
        """What it needs to go on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""

    def result(self) -> dict[str, Any]:
        """JSON values, after the last step."""


@dataclass(frozen=True)
class PruningContext:
    """What a pruner may use beside the network and the ratio.

    Attributes:
        images: the shape of the network's input.
        seed: for a pruner that draws random numbers.
        batches: normalized images (N, C, H, W) and labels (N,) of the training split, on the
            network's device, the same ones in the same order at every call.
        excluded: names of weights or modules that no pruner may touch (the input layer and the classifier,
            unless the suite asks for them).
        once: ``once(name, make)`` is ``make()``, made once for all ratios of the pruner with the same
            options on the same trained network. It must not depend on the ratio. In a context made
            by hand it is made at every call.
        notes: what the pruner writes here (JSON values) becomes part of the cell's record.
        initial: makes the network as it was before its training; None where that is not known.
        pruner: of a probe of a pruned network: the label of what pruned it; else None.
        ratio: of a probe of a pruned network: what was asked for; else None.
        evaluate: of a probe of a dense or a pruned network: ``evaluate(network, change)`` gives ``top1``, ``loss``, and
            ``top5`` if there are 20 classes, on the test split; ``change(images, first)`` makes other images, uint8
            (N, C, H, W), of those at the places from ``first`` on, before they are normalized. Else None.
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
