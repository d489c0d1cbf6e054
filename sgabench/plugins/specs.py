"""What plugins are told: small descriptions that need no torch to be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

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


class Once(Protocol):
    """Gives what a function makes, made at the first call with that name."""

    def __call__(self, name: str, make: Callable[[], _T]) -> _T: ...


def _at_every_call(name: str, make: Callable[[], _T]) -> _T:
    return make()


@dataclass(frozen=True)
class PruningContext:
    """What a pruner may use beside the network and the ratio.

    Attributes:
        images: the shape of the network's input.
        seed: for a pruner that draws random numbers.
        batches: normalized images (N, C, H, W) and labels (N,) of the training split, on the
            network's device, the same ones in the same order at every call.
        excluded: names of modules that no pruner may touch (the input layer and the classifier,
            unless the suite asks for them).
        once: ``once(name, make)`` is ``make()``, made once for all ratios of the pruner with the same
            options on the same trained network. It must not depend on the ratio. In a context made
            by hand it is made at every call.
    """

    images: ImageSpec
    seed: int
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    excluded: frozenset[str]
    once: Once = _at_every_call
