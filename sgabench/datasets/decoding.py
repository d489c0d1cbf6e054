"""Decode many image files with several threads, within limits."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sgabench.datasets.pictures import Background, Source, image_pixels, read_image
from sgabench.errors import InputError
from sgabench.system.environment import cores
from sgabench.system.memory import available, require
from sgabench.system.showing import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MEMORY = "SGABENCH_DATA_MEMORY"  # an environment variable
SHARE = 4  # a data set may use 1/SHARE of the available memory: trials at the same time have one each
MAX_PIXELS = 500_000_000_000  # of all images: hours of decoding
DECODING_BYTES = 16  # per pixel: four copies while it is composited onto a background and converted
BLOCK = 64  # images per thread at a time
MOST_THREADS = 16
_T = TypeVar("_T")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Decoding:
    """How the files of a data set become images of one size.

    Attributes:
        image_size: height and width.
        channels: 1 (grey) or 3 (colour).
        background: visible through transparent parts.
    """

    image_size: int
    channels: int
    background: Background

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image."""
        return self.channels, self.image_size, self.image_size

    @property
    def image_bytes(self) -> int:
        """Of an image."""
        return self.channels * self.image_size**2

    def identity(self) -> dict[str, Any]:
        """Everything that determines the pixels of a file; other versions of libraries may round differently."""
        import PIL
        from PIL import features

        codecs = {name: features.version(name) for name in ("jpg", "jpg_2000", "webp", "avif", "libtiff", "zlib")}
        return {**asdict(self), "pillow": PIL.__version__, "codecs": codecs}

    def __call__(self, path: Source) -> NDArray[np.uint8]:
        """The pixels of a file: uint8 (channels, image_size, image_size)."""
        return read_image(path, self.image_size, self.channels, self.background)


def memory_limit() -> int:
    """Bytes of each process's memory that a data set may use.

    Raises:
        InputError: ``SGABENCH_DATA_MEMORY`` is not a size.
    """
    text = os.environ.get(MEMORY, "").strip()
    if text:
        size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.lower())
        if size is None:
            raise InputError(f"{MEMORY}={text}: is not a size; valid are e.g. 500MB, 8GB and 0")
        return int(float(size[1]) * _UNITS[size[2]])
    left = available()
    return sys.maxsize if left is None else left // SHARE


def threads_for(name: str, root: Path, paths: Sequence[Source]) -> int:
    """Check the first bytes of every image, and refuse what cannot be decoded.

    Returns:
        How many of them can be decoded at the same time.

    Raises:
        InputError: an image cannot be read, they are too large in total, or one is too large for the memory.
    """
    pixels = [image_pixels(path) for path in paths]
    if sum(pixels) > MAX_PIXELS:
        raise InputError(
            f"data set {name!r}: {root}: {len(paths)} images of {sum(pixels) / 1e9:.0f} gigapixels together; at most "
            f"{MAX_PIXELS // 10**9} are decoded: make them smaller first"
        )
    largest, left = max(pixels) * DECODING_BYTES, available()
    require(largest, f"data set {name!r}: {root}: decoding the largest image")
    return max(1, min(cores(), MOST_THREADS, MOST_THREADS if left is None else left // largest))


def decoded(paths: Sequence[Source], decoding: Callable[[Source], _T], what: str, threads: int) -> Iterator[_T]:
    """Decode each file, in order, showing the progress.

    Args:
        paths: of the files.
        decoding: decodes one.
        what: description of the work.
        threads: number of threads.
    """
    block = BLOCK * threads
    with ThreadPoolExecutor(threads) as pool, shown(what, len(paths)) as advance:
        for start in range(0, len(paths), block):
            yield from pool.map(decoding, paths[start : start + block])
            advance(len(paths[start : start + block]))
