"""A lower bound of the memory that a training needs, found from its network before the first step."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from sgabench.errors import InputError
from sgabench.plugins import ImageSpec
from sgabench.suite.choices import Choice
from sgabench.suite.tables import Recipe
from sgabench.system.memory import available, in_words
from sgabench.training.building import seeded

_REFUSAL = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes")  # by PyTorch's allocator
FEW, MORE = 2, 3  # images; batch normalization needs two
_CLASSES = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "stochgradadam": "Adam"}
# Parameter-sized tensors in an optimizer's state, per parameter, whatever its options; of others nothing is known: 0.
_KEPT = {"Adam": 2, "AdamW": 2, "Adamax": 2, "NAdam": 2, "RAdam": 2, "Adadelta": 2, "Rprop": 2}
_KEPT |= {"Adagrad": 1, "ASGD": 1, "RMSprop": 1, "Muon": 1}
_TWO_PASSES = {"sam", "cram"}
_MATRICES = {"pytorch_optimizer:shampoo": 1, "pytorch_optimizer:soap": 2}  # and as many parameter-sized tensors
MOST_ROWS = 10_000  # of a matrix that SOAP makes
# Options with which some of these keep one more.
_KEEPS_MORE = {"momentum": ("SGD", "RMSprop"), "centered": ("RMSprop",), "amsgrad": ("Adam", "AdamW")}


@dataclass(frozen=True)
class Footprint:
    """The memory of a network, in bytes.

    Attributes:
        weights: parameters and buffers.
        trained: the parameters that get gradients.
        fixed: kept by a forward pass for the backward pass, whatever the batch.
        image: kept for each image.
        matrices: size of a square matrix for each dimension of each trained parameter of two or more dimensions.
    """

    weights: int
    trained: int
    fixed: int
    image: int
    matrices: int = 0


@dataclass(frozen=True)
class Kept:
    """The memory of an optimizer.

    Attributes:
        tensors: parameter-sized tensors in its state, per parameter.
        copies: likewise, but only during its second pass over a batch.
        matrices: square ones in its state, for each dimension of each parameter of two or more dimensions.
    """

    tensors: int = 0
    copies: int = 0
    matrices: int = 0


@dataclass(frozen=True)
class Need:
    """The memory that a training needs, in bytes.

    Attributes:
        weights: parameters and buffers, and their averages.
        gradients: of the trained parameters.
        state: of the optimizer.
        copies: of weights and gradients, of an optimizer with two passes per batch.
        activations: kept of a batch for the backward pass.
        snapshot: a copy of weights and state, and the file's content; not at the same time as activations.
    """

    weights: int
    gradients: int
    state: int
    copies: int
    activations: int
    snapshot: int

    @property
    def total(self) -> int:
        """The peak."""
        return self.weights + self.gradients + self.state + max(self.copies + self.activations, self.snapshot)

    def __str__(self) -> str:
        in_a_step = ("copies", "activations") if self.copies else ("activations",)
        most = in_a_step if self.copies + self.activations >= self.snapshot else ("snapshot",)
        parts = ("weights", "gradients", "state", *most)
        return ", ".join(f"{part} {in_words(getattr(self, part))}" for part in parts)


@contextmanager
def limited(workers: int) -> Iterator[None]:
    """Stop the construction of a network that cannot fit, before its memory is written to.

    Args:
        workers: processes that will have such a network.

    Raises:
        InputError: its parameters alone need more memory than there is.
    """
    left, size = available(workers), 0
    counted: dict[int, weakref.finalize[Any, Any]] = {}

    def gone(identity: int, its: int) -> None:
        nonlocal size
        size -= its
        del counted[identity]

    def added(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal size
        if parameter is None or is_lazy(parameter) or parameter.is_meta or id(parameter) in counted:
            return
        its = _bytes(parameter)
        size += its
        counted[id(parameter)] = weakref.finalize(parameter, gone, id(parameter), its)
        if left is not None and size > left:
            raise _TooLarge

    hook = register_module_parameter_registration_hook(added)
    try:
        yield
    except (_TooLarge, MemoryError, RuntimeError) as error:
        refused = _REFUSAL.search(str(error))  # the system refused one more tensor
        if isinstance(error, RuntimeError) and not refused:
            raise
        size += int(refused[1]) if refused else 0
        each = f" for each of {workers} processes" if workers > 1 else ""
        there = f"; {in_words(left)} are available{each}" if left is not None else ""
        raise InputError(f"has parameters of {in_words(size)} or more{there}") from None
    finally:
        hook.remove()
        for watched in list(counted.values()):
            watched.detach()


class _TooLarge(BaseException):
    """Not an `Exception`: code that turns those into messages of its own must let it through."""


def measure(network: nn.Module, spec: ImageSpec) -> Footprint:
    """Measure a network with two forward passes, which change its statistics.

    Args:
        network: to be discarded afterwards.
        spec: of its input.
    """
    parameters = list(network.parameters())
    weights = sum(map(_bytes, [*parameters, *network.buffers()]))
    trained = sum(_bytes(parameter) for parameter in parameters if parameter.requires_grad)
    network.train()
    few, more = (_kept_for_backward(network, spec, images) for images in (FEW, MORE))
    # Random numbers drawn per batch may differ between the two: no more than a whole batch's share.
    image = max(0, min((more - few) // (MORE - FEW), few // FEW, more // MORE))
    sides = (
        (side, parameter.element_size())
        for parameter in parameters
        if parameter.requires_grad and parameter.ndim > 1
        for side in parameter.shape
    )
    matrices = sum(side**2 * size for side, size in sides if side <= MOST_ROWS)
    return Footprint(weights, trained, max(0, few - FEW * image), image, matrices)


def kept_by(optimizer: Choice, steps: int) -> Kept:
    """What an optimizer keeps after some steps; for those of plugins nothing, because it is unknown."""
    if optimizer.code:
        return Kept()
    source, _, name = optimizer.name.rpartition(":")
    kind, options = name if source else _CLASSES.get(name, ""), optimizer.options
    if kind.lower() == "lbfgs":
        most = options.get("max_iter", 20)
        evaluations = options.get("max_eval") or most * 5 // 4  # with a line search, perhaps all in one iteration
        each = 1 if options.get("line_search_fn") else max(1, min(most, evaluations - 1))
        # The direction, the last gradient, and the history of the steps before the last one.
        return Kept(2 + 2 * min(options.get("history_size", 100), max(0, steps * each - 1)))
    if optimizer.name in _MATRICES:
        return Kept(_MATRICES[optimizer.name], matrices=2)
    more = (option for option, kinds in _KEEPS_MORE.items() if kind in kinds and options.get(option))
    tensors = _KEPT.get(kind, 0) + sum(1 for _ in more)
    if options.get("step_norm") == "base":
        tensors = 2 * tensors + 1  # its shadow optimizer has weights, too
    return Kept(tensors, copies=2 if source in _TWO_PASSES else 0)  # the original weights and the first gradient


def need(footprint: Footprint, recipe: Recipe, kept: Kept, device: str, *, half: bool = False) -> Need:
    """The memory that a training needs.

    Args:
        footprint: of its network.
        recipe: of the training.
        kept: by the optimizer.
        device: ``cpu`` or ``cuda``; on CUDA half a batch is enough, and snapshots use other memory.
        half: whether activations have 16 bits.
    """
    weights = footprint.weights * (2 if recipe.weight_averaging != "off" else 1)
    state = footprint.trained * kept.tensors + footprint.matrices * kept.matrices
    copies = footprint.trained * kept.copies
    images = recipe.batch_size // 2 if device == "cuda" else recipe.batch_size
    activations = (footprint.fixed + footprint.image * images) // (2 if half else 1)
    snapshot = 0 if device == "cuda" else 2 * (weights + state)
    return Need(weights, footprint.trained, state, copies, activations, snapshot)


def _kept_for_backward(network: nn.Module, spec: ImageSpec, images: int) -> int:
    """Bytes kept for the backward pass, without the network's own parameters and buffers."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: WeakSet[_Kept] = WeakSet()

    def keep(tensor: Tensor) -> _Kept:
        holder = _Kept(tensor)
        kept.add(holder)
        return holder

    with seeded(0), saved_tensors_hooks(keep, lambda holder: holder.tensor):
        result = network(torch.zeros(images, spec.channels, spec.height, spec.width))
    sizes = {}
    for holder in kept:  # those that the result does not depend on are gone already
        storage = holder.tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
    del result
    return sum(size for address, size in sizes.items() if address not in own)


class _Kept:
    """Holds a tensor for as long as a backward pass may need it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # an output would keep its own graph alive, and so this object


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
