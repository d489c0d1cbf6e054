"""The channels of a network that can be removed, and the parameters and multiply-adds that are left without them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from sgabench.models.cifar_resnet import PaddedShortcut
from sgabench.models.layers import is_within
from sgabench.pruners.channels import arithmetic, movement, norms, products
from sgabench.pruners.channels.labels import NONE, Channels, compact, varying
from sgabench.pruners.channels.tracing import Trace, trace

# Numbers of channels, one for each index of a dimension; STAYS marks what cannot be removed.
Vector = np.ndarray
STAYS = -1
_RULES = {**movement.RULES, **products.RULES, **norms.RULES, **arithmetic.RULES}


@dataclass(frozen=True)
class Structure:
    """The channels of a network.

    Attributes:
        units: numbers of the channels that occur in exactly the same layers, by the layer that makes them.
        sliced: channels of parameters and buffers, by name and dimension.
        sizes: shapes of all parameters.
        operations: multiply-adds of operators for one image, and the vectors that they are proportional to.
        norms: channels that each normalization over channels normalizes, in order of execution.
        attentions: names of modules with the channels of queries and keys multiplied in them.
        splits: names of modules with the part of a dimension of channels that shrinks in them.
        wholes: inputs and outputs of custom modules, by name.
        kept_whole: layers that are not excluded and keep all their outputs.
    """

    units: dict[str, Vector]
    sliced: dict[tuple[str, int], Vector]
    sizes: dict[str, tuple[int, ...]]
    operations: list[tuple[int, list[Vector]]]
    norms: list[Vector | None]
    attentions: list[tuple[str, Vector]]
    splits: list[tuple[str, Vector]]
    wholes: dict[str, tuple[Vector, Vector]]
    kept_whole: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """The number of removable channels."""
        return sum(map(len, self.units.values()))

    def params(self, kept: np.ndarray) -> int:
        """Parameters that are left if these channels are kept (``kept`` as in `remove`)."""
        lengths = {place: _left(vector, kept) for place, vector in self.sliced.items()}
        total = 0
        for name, shape in self.sizes.items():
            numbers = 1
            for dim, size in enumerate(shape):
                numbers *= lengths.get((name, dim), size)
            total += numbers
        return total

    def macs(self, kept: np.ndarray) -> int:
        """Multiply-adds that are left."""
        total = 0
        for macs, vectors in self.operations:
            for vector in vectors:
                macs = macs // len(vector) * _left(vector, kept)
            total += macs
        return total

    def without(self, units: Iterable[str]) -> Structure:
        """The same structure, with all channels of some units staying."""
        gone = set(units)
        stay = np.zeros(_length(self.units.values()) + 1, dtype=bool)
        for name in gone:
            stay[self.units[name]] = True
        stay[STAYS] = True
        return replace(
            self,
            units={name: vector for name, vector in self.units.items() if name not in gone},
            sliced={p: v for p, v in ((p, _staying(v, stay)) for p, v in self.sliced.items()) if (v != STAYS).any()},
            operations=[(macs, [_staying(v, stay) for v in vectors]) for macs, vectors in self.operations],
            norms=[None if v is None else _staying(v, stay) for v in self.norms],
            attentions=[(name, _staying(v, stay)) for name, v in self.attentions],
            splits=[(name, _staying(v, stay)) for name, v in self.splits],
            wholes={n: (_staying(a, stay), _staying(b, stay)) for n, (a, b) in self.wholes.items()},
            kept_whole=(*self.kept_whole, *sorted(gone)),
        )

    @property
    def numbers(self) -> int:
        """One more than the largest number of a channel."""
        return _length(self.units.values())


def _left(vector: Vector, kept: np.ndarray) -> int:
    return int(np.count_nonzero(kept[vector]))


def _staying(vector: Vector, stay: np.ndarray) -> Vector:
    return np.where(stay[vector], STAYS, vector)


def _length(vectors: Iterable[Vector]) -> int:
    return max((int(vector.max()) + 1 for vector in vectors if len(vector)), default=0)


def find_structure(network: nn.Module, example: Tensor, excluded: Collection[str]) -> Structure:
    """Run a network once and find its channels.

    Args:
        network: it is not changed.
        example: images (1, C, H, W).
        excluded: names of modules that keep their outputs.
    """
    with _contiguous(network):
        return _found(network, example, excluded)


@contextmanager
def _contiguous(network: nn.Module) -> Iterator[None]:
    """Make weights contiguous for a while, layer by layer: a copy of the network would need as much memory again.

    In channels-last format, flattening a single pixel becomes an operator that is not understood.
    """
    with ExitStack() as stack:
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_contiguous():
                continue
            if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
                stack.callback(_lay_out, tensor, torch.channels_last)
            else:
                stack.callback(setattr, tensor, "data", tensor.data)
            _lay_out(tensor, torch.contiguous_format)
        yield


def _lay_out(tensor: Tensor, order: torch.memory_format) -> None:
    tensor.data = tensor.data.contiguous(memory_format=order)


def _found(network: nn.Module, example: Tensor, excluded: Collection[str]) -> Structure:
    found = trace(network, example.contiguous(), _RULES, (PaddedShortcut,))
    _keep(found, network, excluded)
    solved = found.coupling.solve()
    sliced, stay = _slices(found, solved)
    sources = _sources(found, network)
    channels = {c for place in sources for c in sliced.get(place, ())} | {
        c for _, out in found.wholes.values() for c in solved.of(out)
    }
    units: dict[str, Vector] = {}
    numbers: dict[int, int] = {}
    for members in _together(np.array(sorted(channels - stay - {NONE}), dtype=np.int64), sliced.values()):
        layer = next((sources[place] for place in sources if members[0] in sliced.get(place, ())), None)
        if layer is None:
            continue
        name = layer
        while name in units:
            name += "'"
        units[name] = np.arange(len(numbers), len(numbers) + len(members))
        numbers |= dict(zip(members.tolist(), units[name].tolist(), strict=True))
    table = _Table(numbers, solved)
    whole = [
        name for place, name in sources.items() if place not in sliced or (table.numbers(sliced[place]) == STAYS).all()
    ]
    return Structure(
        units=units,
        sliced={place: v for place, v in ((p, table.numbers(s)) for p, s in sliced.items()) if (v != STAYS).any()},
        sizes={name: tuple(p.shape) for name, p in network.named_parameters()},
        operations=[(macs, [table.of(v) for v in vectors]) for macs, vectors in found.operations],
        norms=[None if v is None else table.of(v) for v in found.norms],
        attentions=[(name, table.of(v)) for name, v in found.attentions],
        splits=[(name, table.of(v)) for name, v in found.splits],
        wholes={name: (table.of(a), table.of(b)) for name, (a, b) in found.wholes.items()},
        kept_whole=tuple(name for name in whole if not is_within(name, excluded)),
    )


def _together(channels: np.ndarray, vectors: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Group channels that occur in exactly the same vectors, ordered by the first of each group."""
    group, anywhere = np.zeros(len(channels), dtype=np.int64), np.zeros(len(channels), dtype=bool)
    for vector in vectors:
        here = np.isin(channels, vector)
        anywhere |= here
        group = np.unique(2 * group + here, return_inverse=True)[1]
    channels, group = channels[anywhere], group[anywhere]
    firsts = np.sort(np.unique(group, return_index=True)[1])
    return [channels[group == group[first]] for first in firsts]


class _Table:
    """Converts labels to numbers of channels."""

    def __init__(self, numbers: dict[int, int], solved: Channels) -> None:
        self._channels = np.array(sorted(numbers), dtype=np.int64)
        self._numbers = np.array([numbers[channel] for channel in sorted(numbers)], dtype=np.int64)
        self._solved = solved

    def of(self, labels: Tensor) -> Vector:
        return self.numbers(self._solved.of(labels))

    def numbers(self, channels: np.ndarray) -> Vector:
        if not len(self._channels):
            return np.full(channels.shape, STAYS)
        places = np.searchsorted(self._channels, channels).clip(max=len(self._channels) - 1)
        return np.where(self._channels[places] == channels, self._numbers[places], STAYS)


def _keep(found: Trace, network: nn.Module, excluded: Collection[str]) -> None:
    """Freeze the outputs of the modules with these names."""
    for (name, dim), slots in found.slots.items():
        module = name.rpartition(".")[0]
        if is_within(module, excluded) and dim == _out_dim(network.get_submodule(module)):
            found.coupling.freeze(slots)


def _out_dim(layer: nn.Module) -> int:
    return 1 if isinstance(layer, _ConvTransposeNd) else 0


def _sources(found: Trace, network: nn.Module) -> dict[tuple[str, int], str]:
    """The weights that make removable channels: the layer's name by parameter and dimension."""
    sources: dict[tuple[str, int], str] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, (_ConvNd, nn.Linear)) and isinstance(layer.weight, nn.Parameter):
            known = next((s for s in found.states.values() if s.tensor is layer.weight), None)
            if known is not None:
                sources.setdefault((known.name, _out_dim(layer)), name)
        elif isinstance(layer, nn.MultiheadAttention) and layer.in_proj_weight is not None:
            sources[f"{name}.in_proj_weight", 0] = name
    return sources


def _slices(found: Trace, solved: Channels) -> tuple[dict[tuple[str, int], np.ndarray], set[int]]:
    """Channels of each dimension of parameters and buffers, and those that must stay, having no single dimension."""
    sliced = {place: solved.of(slots) for place, slots in found.slots.items()}
    stay: set[int] = set()
    for name in found.elementwise:
        state = found.states[name]
        labels = torch.full([1] * state.tensor.dim(), state.first + state.tensor.storage_offset())
        for dim, (size, stride) in enumerate(zip(state.tensor.shape, state.tensor.stride(), strict=True)):
            shape = [1] * state.tensor.dim()
            shape[dim] = size
            labels = labels + (torch.arange(size) * stride).view(shape)
        channels = compact(torch.from_numpy(solved.of(labels)))
        dims = varying(channels)
        if len(dims) == 1:
            if (name, dims[0]) in sliced and (sliced[name, dims[0]] != channels.reshape(-1).numpy()).any():
                stay |= set(channels.reshape(-1).tolist()) | set(sliced[name, dims[0]].tolist())
            sliced[name, dims[0]] = channels.reshape(-1).numpy()
        elif dims:
            stay |= set(channels.reshape(-1).tolist())
    return sliced, stay
