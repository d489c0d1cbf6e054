"""Labels of a tensor's elements: which channel each belongs to, and which channels must go together.

A label is an integer. Labels are stored in a tensor with as many dimensions as the labelled one, and with size 1 in
each dimension along which they do not vary.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

# The label of elements that belong to no channel, or must stay.
NONE = 0
# Labels from here on are those of single elements of parameters and buffers.
ELEMENTS = 1 << 40


class Coupling:
    """Which labels have been found to belong together."""

    def __init__(self) -> None:
        self._next = 1
        self._pairs: list[np.ndarray] = []

    def fresh(self, count: int) -> Tensor:
        """New labels (count,)."""
        first, self._next = self._next, self._next + count
        return torch.arange(first, self._next)

    def unify(self, labels: Tensor, others: Tensor | int) -> None:
        """From now on these labels mean the same channels, element by element."""
        other = others.numpy() if isinstance(others, Tensor) else np.int64(others)
        pairs = np.stack([array.reshape(-1) for array in np.broadcast_arrays(labels.numpy(), other)], axis=1)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        if len(pairs):
            self._pairs.append(np.unique(pairs, axis=0))

    def freeze(self, labels: Tensor) -> None:
        """These channels must stay."""
        self.unify(labels, NONE)

    def solve(self) -> Channels:
        """The channels: sets of labels that belong together."""
        known = np.unique(np.concatenate([*(pairs.reshape(-1) for pairs in self._pairs), [np.int64(NONE)]]))
        places = np.concatenate([np.zeros((0, 2), np.int32), *(_places(known, pairs) for pairs in self._pairs)])
        edges = np.ones(len(places), dtype=bool), (places[:, 0], places[:, 1])
        graph = coo_array(edges, shape=(len(known), len(known)))
        _, component = connected_components(graph, directed=False)
        smallest = np.full(component.max() + 1, np.iinfo(np.int64).max)
        np.minimum.at(smallest, component, known)
        return Channels(known, smallest[component])


def _places(known: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The positions of labels among the known ones; as there are only as many as channels, 32 bits are enough."""
    return np.searchsorted(known, pairs).astype(np.int32)


class Channels:
    """Finds the channel of any label; each channel is known by its smallest label."""

    def __init__(self, labels: np.ndarray, channels: np.ndarray) -> None:
        self._labels, self._channels = labels, channels

    def of(self, labels: Tensor) -> np.ndarray:
        """Channels of labels, in the same shape."""
        asked = labels.numpy()
        places = np.searchsorted(self._labels, asked).clip(max=len(self._labels) - 1)
        return np.where(self._labels[places] == asked, self._channels[places], asked)


def compact(labels: Tensor) -> Tensor:
    """The same labels, with size 1 in dimensions along which they do not vary."""
    for dim, size in enumerate(labels.shape):
        if size > 1:
            first = labels.narrow(dim, 0, 1)
            if labels.stride(dim) == 0 or bool((labels == first).all()):
                labels = first
    return labels


def varying(labels: Tensor) -> list[int]:
    """Dimensions along which compact labels vary."""
    return [dim for dim, size in enumerate(labels.shape) if size > 1]


def vector(labels: Tensor, dim: int, size: int, coupling: Coupling) -> Tensor:
    """Labels along a dimension (size,); labels that differ along others are unified."""
    for other in varying(labels):
        if other != dim % labels.dim():
            first = labels.narrow(other, 0, 1)
            coupling.unify(labels, first)
            labels = first
    return labels.reshape(-1).expand(size)


def along(vector: Tensor, dim: int, dims: int) -> Tensor:
    """A vector as labels of a tensor with ``dims`` dimensions, varying along one of them."""
    shape = [1] * dims
    shape[dim] = len(vector)
    return vector.reshape(shape)
