"""Decoded images in a file: made once, checked whenever it is opened.

A folder ``NAME-KEY`` has ``images.npy`` and ``about.json``, which says what they were made from: the listing of the
files (name, size, time of the last change) and how they were decoded. It is written under a temporary name and moved,
so that it is complete or absent; a lock makes processes that need the same one wait for the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgabench.datasets.decoding import Decoding, decoded, memory_limit, threads_for
from sgabench.datasets.pictures import Source
from sgabench.errors import InputError
from sgabench.system.memory import in_words

if TYPE_CHECKING:
    from sgabench.datasets.streamed import ImageFile, Pixels

CACHE = "SGABENCH_CACHE"  # an environment variable
FOLDER = ".prepared"  # in the data folder
FORMAT = 1
_READ_BYTES = 2**24

_logger = logging.getLogger("sgabench")


def cache_folder(data_dir: Path) -> Path:
    """The folder of decoded images."""
    return Path(os.environ.get(CACHE) or data_dir / FOLDER)


def about_all(data_dir: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """For everything in the cache: the name of its folder, bytes, and what it was made from."""
    for path in sorted(cache_folder(data_dir).glob("*/about.json")):
        with contextlib.suppress(OSError, ValueError):
            yield path.parent.name, (path.parent / "images.npy").stat().st_size, json.loads(path.read_text())


def images_of(prepared: Prepared) -> Pixels:
    """The images of a data set, in memory or streamed, which makes no difference to any number.

    They are in memory if they take no more than ``SGABENCH_DATA_MEMORY``, by default a quarter of what is available.

    Raises:
        InputError: an image cannot be read, or there is no room for the decoded images.
    """
    import numpy as np
    import torch

    from sgabench.datasets.streamed import Streamed

    fits = prepared.bytes <= memory_limit()
    file = prepared.open()
    if file is None and not fits:
        file = prepared.make()
    if file is not None:
        return file[torch.arange(len(file))] if fits else Streamed(file)
    paths, decoding = prepared.paths, prepared.decoding
    threads = threads_for(prepared.name, prepared.root, paths)
    images = np.empty((len(paths), *decoding.shape), dtype=np.uint8)
    what = f"{prepared.root.name}: decoding {len(paths)} images"
    for index, pixels in enumerate(decoded(paths, decoding, what, threads)):
        images[index] = pixels
    return torch.from_numpy(images)


@dataclass(frozen=True)
class Prepared:
    """The cache entry of a data set's decoded images, whether it exists or not.

    Attributes:
        name: of the data set, for messages.
        root: the folder of its files.
        paths: of these, in order.
        decoding: of the files.
        folder: of the decoded images.
        listing: hash of names, sizes and times of the files.
    """

    name: str
    root: Path
    paths: Sequence[Source]
    decoding: Decoding
    folder: Path
    listing: str

    @classmethod
    def of(
        cls,
        name: str,
        root: Path,
        paths: Sequence[Source],
        decoding: Decoding,
        data_dir: Path,
        stored: Sequence[Path] = (),
    ) -> Prepared:
        """The entry for some files.

        Args:
            name: of the data set, for messages.
            root: the folder of all files.
            paths: in order; or images without files of their own.
            decoding: of the files.
            data_dir: folder of the cache, unless ``SGABENCH_CACHE`` is set.
            stored: the files that contain the images without files of their own.

        Raises:
            InputError: the properties of a file cannot be read.
        """
        digest = hashlib.sha256()
        for path in (*paths, *stored):
            if not isinstance(path, Path):
                digest.update(f"{path}\0".encode("utf-8", "surrogateescape"))
                continue
            try:
                found = path.stat()
            except OSError as error:
                raise InputError(f"data set {name!r}: {path}: {error.strerror or error}") from None
            line = f"{path.relative_to(root).as_posix()}\0{found.st_size}\0{found.st_mtime_ns}\0"
            digest.update(line.encode("utf-8", "surrogateescape"))
        place = {"format": FORMAT, "root": os.fsdecode(os.path.realpath(root)), **decoding.identity()}
        key = hashlib.sha256(json.dumps(place, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        folder = cache_folder(data_dir) / f"{name}-{key}"
        return cls(name, root, paths, decoding, folder, digest.hexdigest())

    @property
    def bytes(self) -> int:
        """The size of the images."""
        return len(self.paths) * self.decoding.image_bytes

    def open(self) -> ImageFile | None:
        """The images; None if they do not exist, are outdated, or damaged."""
        import numpy as np

        from sgabench.datasets.streamed import ImageFile

        about = self._about()
        if about is None or about["listing"] != self.listing:
            return None
        path, shape = self.folder / "images.npy", (len(self.paths), *self.decoding.shape)
        try:
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                found = np.lib.format.read_array_header_1_0(file)
                start = file.tell()
                if found != (shape, False, np.dtype(np.uint8)):
                    raise ValueError(f"it holds {found[0]}")
                file.seek(0)
                checksum = 0
                while content := file.read(_READ_BYTES):
                    checksum = zlib.crc32(content, checksum)
            if checksum != about["crc32"]:
                raise ValueError("its checksum differs from when it was written")
            return ImageFile(path, start, shape)
        except (OSError, ValueError) as error:
            _logger.warning("warning: %s: damaged (%s); it is made again", self.folder, error)
            return None

    def make(self) -> ImageFile:
        """Decode all files once, waiting for another process that does the same.

        Raises:
            InputError: an image cannot be read, there is no room, or the folder is not writable.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                if (images := self.open()) is not None:
                    return images  # by another process
                self._write()
        except OSError as error:
            raise InputError(
                f"data set {self.name!r}: cannot keep {in_words(self.bytes)} of decoded images in {self.folder.parent} "
                f"({error.strerror or error}); name another folder with {CACHE}"
            ) from None
        images = self.open()
        if images is None:
            raise InputError(f"{self.folder}: what was just written there cannot be read; is the disk full?")
        return images

    def _about(self) -> Any:
        try:
            about = json.loads((self.folder / "about.json").read_text(encoding="utf-8"))
            return about if {"listing", "crc32"} <= about.keys() else None
        except (OSError, ValueError, AttributeError):
            return None

    def _write(self) -> None:
        import numpy as np

        part = self.folder.with_name(self.folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)  # left by a killed process: this one has the lock
        free = shutil.disk_usage(self.folder.parent).free
        if self.bytes > free:
            raise InputError(
                f"data set {self.name!r}: decoded images take {in_words(self.bytes)}, but only {in_words(free)} are "
                f"free in {self.folder.parent}; name another folder with {CACHE}"
            )
        threads = threads_for(self.name, self.root, self.paths)
        part.mkdir()
        try:
            header = np.lib.format.header_data_from_array_1_0(np.empty((0, *self.decoding.shape), np.uint8))
            header["shape"] = (len(self.paths), *self.decoding.shape)
            with (part / "images.npy").open("w+b") as file:
                np.lib.format.write_array_header_1_0(file, header)
                file.seek(0)
                checksum = zlib.crc32(file.read())
                what = f"{self.root.name}: decoding {len(self.paths)} images once"
                for pixels in decoded(self.paths, self.decoding, what, threads):
                    content = np.ascontiguousarray(pixels).tobytes()
                    checksum = zlib.crc32(content, checksum)
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            about = {
                "listing": self.listing,
                "crc32": checksum,
                "root": os.fsdecode(self.root),
                "images": len(self.paths),
            }
            (part / "about.json").write_text(json.dumps({**about, **self.decoding.identity()}, indent=1))
            shutil.rmtree(self.folder, ignore_errors=True)  # open files stay readable
            part.rename(self.folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            import fcntl
        except ImportError:  # not on Unix: the last one to be moved stays
            yield
            return
        with self.folder.with_name(self.folder.name + ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _logger.warning("%s: waiting for another process that decodes the same images", self.folder)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
