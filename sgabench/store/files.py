"""Files of trained weights and snapshots: in the results folder, or in a storage shared by several machines."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from sgabench.errors import InputError, describe
from sgabench.store.store import write_atomically

_logger = logging.getLogger(__name__)


class Files(Protocol):
    """Files by name (``weights/KEY.safetensors``), each complete or absent."""

    def where(self, name: str) -> str:
        """The location of a file, for messages."""

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it does not exist."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, replacing an earlier one.

        Raises:
            OSError: it cannot be written.
        """

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


def files_of(results: Path, storage: str | None) -> Files:
    """The files of a run's weights and snapshots.

    Args:
        results: the results folder.
        storage: a folder or fsspec URL to use instead.

    Raises:
        InputError: there is no such storage, or its protocol needs a package that is not installed.
    """
    if storage is None:
        return Folder(results)
    if storage.startswith("file://"):
        return Folder(Path(storage.removeprefix("file://")))
    if "://" not in storage:
        return Folder(Path(storage).absolute())
    files = Storage(storage.rstrip("/"))
    try:
        _ = files.system
    except Exception as error:  # raised by the protocol's package
        raise InputError(f"--storage {storage}: {describe(error)}") from error
    return files


@dataclass(frozen=True)
class Folder:
    """A folder of this machine, or one mounted on all."""

    path: Path

    def where(self, name: str) -> str:
        """The path."""
        return str(self.path / name)

    def read(self, name: str) -> bytes | None:
        """What a file holds; None if it cannot be read."""
        try:
            return (self.path / name).read_bytes()
        except OSError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a temporary file and move it into place.

        Raises:
            OSError: the folder cannot be written to.
        """
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Storage:
    """A location that fsspec reaches by URL, such as a bucket: a single call writes a complete file."""

    url: str

    @cached_property
    def system(self) -> Any:
        """fsspec's file system for the URL."""
        import fsspec

        return fsspec.url_to_fs(self.url)[0]

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}  # connections are not shared between processes

    def where(self, name: str) -> str:
        """The URL."""
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes | None:
        """What a file holds; None if it cannot be read."""
        try:
            return bytes(self.system.cat_file(self.where(name)))
        except Exception:  # each protocol's package has its own
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file.

        Raises:
            OSError: for any error of the storage.
        """
        try:
            self.system.makedirs(self.where(name).rpartition("/")[0], exist_ok=True)
            self.system.pipe_file(self.where(name), content)
        except OSError:
            raise
        except Exception as error:  # each protocol's package has its own
            raise OSError(describe(error)) from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            self.system.rm_file(self.where(name))
        except FileNotFoundError:
            return
        except Exception as error:  # each protocol's package has its own; what is left does no harm
            _logger.warning("%s: cannot be removed: %s", self.where(name), describe(error))
