"""Follow channels through a network while it runs once, operator by operator.

Every element of every activation carries the label of the channel that it belongs to. Operators that only
move numbers move their labels, so that shuffles, windows, splits and flattened maps need no special treatment. If an
operator makes channels depend on each other, they belong together; if it is not understood, its input channels stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sgabench.models.layers import evaluating
from sgabench.models.operations import unfused
from sgabench.pruners.channels.labels import ELEMENTS, NONE, Coupling, along, compact, vector


@dataclass(frozen=True)
class State:
    """A parameter or a buffer.

    Attributes:
        name: the first one that it has.
        first: label of the element at the start of its memory.
    """

    name: str
    tensor: Tensor
    first: int


@dataclass
class Trace:
    """The findings about a network.

    Attributes:
        coupling: which labels belong together.
        states: parameters and buffers by their name.
        slots: labels of the indices of a dimension of a multiplied weight, by name and dimension.
        elementwise: names of the states whose elements have labels of their own.
        operations: multiply-adds of an operator, and the vectors of labels that they are proportional to.
        norms: labels that each normalization over channels normalizes, in order of execution.
        attentions: modules in which channels of queries and keys are multiplied, with their labels.
        splits: modules in which a dimension of channels is split, and the labels of the part that shrinks.
        wholes: custom modules with the labels of their inputs and outputs.
    """

    coupling: Coupling = field(default_factory=Coupling)
    states: dict[str, State] = field(default_factory=dict)
    slots: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    elementwise: set[str] = field(default_factory=set)
    operations: list[tuple[int, list[Tensor]]] = field(default_factory=list)
    norms: list[Tensor | None] = field(default_factory=list)
    attentions: list[tuple[str, Tensor]] = field(default_factory=list)
    splits: list[tuple[str, Tensor]] = field(default_factory=list)
    wholes: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


Rule = Callable[["Tracer", Any, tuple[Any, ...], dict[str, Any], Any], None]


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives labels to the outputs of operators.

    Args:
        network: about to be run.
        rules: functions for operators, by name; ``""`` is for all others.
    """

    def __init__(self, network: nn.Module, rules: dict[str, Rule]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.suspended = False
        self.inside: list[str] = [""]
        self._rules = rules
        self._memory: dict[int, State] = {}
        first = ELEMENTS
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            place = tensor.untyped_storage().data_ptr()
            if tensor.is_floating_point() and tensor.numel() and place not in self._memory:
                self.trace.states[name] = self._memory[place] = State(name, tensor, first)
                first += tensor.untyped_storage().nbytes() // tensor.element_size()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self.suspended and any(self.is_known(value) for value in tree_leaves((args, kwargs))):
            name = func._schema.name.partition("::")[2]
            rule = self._rules.get(name) or self._rules.get(name.removesuffix("_"))
            if rule is None:
                rule = self._rules["pointwise" if torch.Tag.pointwise in func.tags else ""]
            rule(self, func, args, kwargs, out)
        return out

    def is_known(self, value: object) -> bool:
        """Whether a value is a tensor with labels."""
        return isinstance(value, Tensor) and (hasattr(value, "_labels") or self.state_of(value) is not None)

    def state_of(self, tensor: Tensor) -> State | None:
        """The parameter or buffer that a tensor is, or is part of."""
        if hasattr(tensor, "_labels"):
            return None
        return self._memory.get(tensor.untyped_storage().data_ptr())

    def labels(self, tensor: Tensor) -> Tensor | None:
        """Compact labels; None for a constant."""
        found: Tensor | None = getattr(tensor, "_labels", None)
        if found is not None:
            return found
        state = self.state_of(tensor)
        if state is None:
            return None
        self.trace.elementwise.add(state.name)
        places = torch.full([1] * tensor.dim(), state.first + tensor.storage_offset())
        for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            shape = [1] * tensor.dim()
            shape[dim] = size
            places = places + (torch.arange(size) * stride).view(shape)
        return compact(places)

    def labels_or_none(self, tensor: Tensor) -> Tensor:
        """Compact labels; those of a constant belong to no channel."""
        found = self.labels(tensor)
        return torch.full([1] * tensor.dim(), NONE) if found is None else found

    def full(self, tensor: Tensor) -> Tensor | None:
        """Labels in the shape of the tensor."""
        found = self.labels(tensor)
        return None if found is None else found.expand(tensor.shape)

    def set(self, tensor: Tensor, labels: Tensor | None) -> None:
        """Give labels to an operator's output; None: it belongs to no channel."""
        if labels is None:
            labels = torch.full([1] * tensor.dim(), NONE)
        tensor._labels = compact(labels)  # type: ignore[attr-defined]

    def slots_of(self, state: State, dim: int) -> Tensor:
        """Labels of the indices of a dimension of a weight."""
        key = (state.name, dim)
        if key not in self.trace.slots:
            self.trace.slots[key] = self.trace.coupling.fresh(state.tensor.shape[dim])
        return self.trace.slots[key]

    def freeze(self, value: object) -> None:
        """Make all channels of a tensor stay; if it is a parameter, it keeps its shape."""
        if not isinstance(value, Tensor):
            return
        state = self.state_of(value)
        if state is not None:
            for dim in range(state.tensor.dim()):
                self.trace.coupling.freeze(self.slots_of(state, dim))
            return
        labels = getattr(value, "_labels", None)
        if labels is not None:
            self.trace.coupling.freeze(labels)


def trace(network: nn.Module, example: Tensor, rules: dict[str, Rule], wholes: tuple[type[nn.Module], ...]) -> Trace:
    """Run a network once and follow its channels.

    Args:
        network: it is not changed.
        example: images (1, C, H, W).
        rules: see `Tracer`.
        wholes: types of modules to treat as opaque: their inputs and outputs lose channels independently.
    """
    images = example.clone()
    with evaluating(network), unfused(), Tracer(network, rules) as tracer, _following(network, tracer, wholes):
        tracer.set(images, None)
        logits = network(images)
    tracer.freeze(logits)
    found: Trace = tracer.trace
    return found


@contextmanager
def _following(network: nn.Module, tracer: Tracer, wholes: tuple[type[nn.Module], ...]) -> Iterator[None]:
    """Let the tracer know which module is running."""
    hooks = []
    for name, module in network.named_modules():

        def enter(module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            tracer.inside.append(name)
            if isinstance(module, wholes):
                tracer.suspended = True
            if isinstance(module, nn.MultiheadAttention):
                _tie_embedding(tracer, module, [*args, *kwargs.values()][0])

        def leave(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            tracer.inside.pop()
            if isinstance(module, wholes):
                tracer.suspended = False
                _pass_whole(tracer, name, args[0], output)

        hooks += [
            module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True),
            module.register_forward_hook(leave),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _pass_whole(tracer: Tracer, name: str, given: Tensor, output: Tensor) -> None:
    labels = tracer.labels(given)
    inputs = vector(labels, 1, given.shape[1], tracer.trace.coupling) if labels is not None else torch.zeros(1)
    outputs = tracer.trace.coupling.fresh(output.shape[1])
    tracer.trace.wholes[name] = (inputs, outputs)
    tracer.set(output, along(outputs, 1, output.dim()))


def _tie_embedding(tracer: Tracer, attention: nn.MultiheadAttention, query: Tensor) -> None:
    """Unify the width of the queries with that of all heads: torch's module has one number for both."""
    state, labels = tracer.state_of(attention.in_proj_weight), tracer.labels(query)
    if state is None or labels is None:
        return
    slots = tracer.slots_of(state, 0)
    width = attention.embed_dim
    outer = vector(labels, query.dim() - 1, width, tracer.trace.coupling)
    for part in slots.view(-1, width):
        tracer.trace.coupling.unify(part, outer)
    out = tracer.state_of(attention.out_proj.weight)
    if out is not None:
        tracer.trace.coupling.unify(tracer.slots_of(out, 0), outer)
