"""Images that stay in a file, used instead of a tensor if a data set does not fit into memory."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgabench.errors import InputError


class ImageFile:
    """Consecutive images in a file, read on demand.

    It is read, not mapped into memory: so the process's memory is what it computes with, limits of the address space do
    not limit the data, and a truncated file is an error, not the end of the process.

    Args:
        path: of the file.
        start: bytes before the first image.
        shape: (N, C, H, W).
    """

    dtype = torch.uint8
    device = torch.device("cpu")

    def __init__(self, path: Path, start: int, shape: tuple[int, ...]) -> None:
        self.shape = torch.Size(shape)
        self.ndim = len(shape)
        self._path = path
        self._start = start
        self._size = math.prod(shape[1:])
        self._file = path.open("rb")
        self._alone = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Read images: uint8 (n, C, H, W)."""
        read = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8)
        into = read.numpy().reshape(-1).data
        wanted = rows.numpy()
        ends = [*(np.flatnonzero(np.diff(wanted) != 1) + 1).tolist(), len(wanted)]
        first = 0
        for end in ends if len(wanted) else ():  # neighbours are read at once
            part = into[first * self._size : end * self._size]
            with self._alone:
                self._file.seek(self._start + int(wanted[first]) * self._size)
                if self._file.readinto(part) != len(part):
                    raise InputError(f"{self._path}: ends too early; it was changed while in use")
            first = end
        return read


class Streamed:
    """Images that are only read into a device's memory on demand.

    Args:
        images: uint8 (N, C, H, W), in a file, or in CPU memory if the device has too little.
        rows: int64, the indices of these images, in order; None: all.
    """

    def __init__(self, images: Tensor | ImageFile, rows: Tensor | None = None) -> None:
        self._images = images
        self._rows = torch.arange(len(images)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size([len(self), *self._images.shape[1:]])

    @property
    def ndim(self) -> int:
        """4."""
        return self._images.ndim

    @property
    def dtype(self) -> torch.dtype:
        """uint8."""
        return self._images.dtype

    @property
    def device(self) -> torch.device:
        """The device that images are read to."""
        return self._images.device

    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __getitem__(self, which: Tensor | slice) -> Tensor:
        """Read images into memory: uint8 (n, C, H, W)."""
        return self._images[self._rows[which]]

    def part(self, which: Tensor | slice) -> Streamed:
        """A part of the images, without reading them."""
        return Streamed(self._images, self._rows[which])


Pixels = Tensor | Streamed


def part_of(images: Pixels, which: Tensor | slice) -> Pixels:
    """A part of the images; those in a file stay there."""
    return images.part(which) if isinstance(images, Streamed) else images[which]


def bytes_in_memory(images: Pixels) -> int:
    """Memory that images use in a process; those in a file use none."""
    return 0 if isinstance(images, Streamed) else images.nbytes
