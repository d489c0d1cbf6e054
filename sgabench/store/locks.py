"""Locks of a results folder: locks on files, which the system releases when their process ends."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sgabench.errors import InputError

CLAIMS = "claims"
# Seconds to wait for another process's short exclusive work: creating or cleaning a store.
PATIENCE = 10.0
_POLL_SECONDS = 0.02
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)

if sys.platform == "win32":
    import msvcrt

    SHARES = False  # a lock has a single holder there

    def _try(file: IO[Any], shared: bool) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def unlock(file: IO[Any]) -> None:
        """Give a lock back."""
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    SHARES = True

    def _try(file: IO[Any], shared: bool) -> None:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def unlock(file: IO[Any]) -> None:
        """Release a lock, for every process that shares this open file."""
        fcntl.flock(file, fcntl.LOCK_UN)


class Busy(InputError):
    """Another process has the lock."""


def lock(file: IO[Any], *, shared: bool = False, seconds: float = 0.0) -> bool:
    """Lock an open file until it is unlocked or closed.

    Args:
        file: a file that is opened twice can be locked twice, even in one process.
        shared: together with others that share it, rather than exclusively.
        seconds: how long to try; ``inf``: until it is free.

    Returns:
        Whether it was free.

    Raises:
        OSError: the file system has no locks.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            _try(file, shared)
            return True
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_SECONDS)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Be the only process that writes to a results folder.

    Raises:
        Busy: another process is writing.
        InputError: nobody can.
    """
    with _open(folder / ".lock", folder) as file:
        if not _taken(file, folder):
            raise Busy(
                f"results folder {folder}: another run is writing to it; wait for it or name another with --results"
            )
        yield


@contextmanager
def shared(folder: Path, when_alone: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Write to a results folder beside others that share it; where locks cannot be shared, alone.

    Args:
        folder: the results folder.
        when_alone: called first, if no other process is writing.

    Raises:
        Busy: another process is writing exclusively.
        InputError: nobody can.
    """
    with _open(folder / ".lock", folder) as file:
        alone = _taken(file, folder)
        if alone:
            when_alone()
            if SHARES:
                unlock(file)
        if not (alone and not SHARES) and not _taken(file, folder, shared=True, seconds=PATIENCE):
            raise Busy(
                f"results folder {folder}: a command that needs it exclusively (tune, import, merge, doctor --repair) "
                "is writing to it; wait for it or name another with --results"
            )
        yield


def once(folder: Path, needed: Callable[[], bool], act: Callable[[], None]) -> None:
    """Do something that one process must do exclusively, unless another one has done it first.

    Raises:
        Busy: another process has been writing for a long time without doing it.
    """
    end = time.monotonic() + PATIENCE
    while needed():
        try:
            with exclusive(folder):
                if needed():
                    act()
        except Busy:
            if time.monotonic() >= end:
                raise
            time.sleep(_POLL_SECONDS)


class Claims:
    """The trials that this process has claimed, each with a lock on a file of its own.

    A claim is held by all processes that share it, and lapses when the last of them ends.
    """

    def __init__(self, results: Path) -> None:
        self._results = results
        self._held: dict[str, IO[Any]] = {}

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        for key in tuple(self._held):
            self.release(key)

    def take(self, key: str) -> bool:
        """Claim a trial; False if another run has claimed it.

        Raises:
            InputError: the folder cannot be written to.
        """
        path = self._path(key)
        while True:
            file = _open(path, self._results)
            if not _taken(file, self._results):
                file.close()
                return False
            if _is_at(file, path):
                self._held[key] = file
                return True
            file.close()  # its last holder removed it after it was opened here

    def release(self, key: str) -> None:
        """Release a claim, for all processes that share it."""
        file = self._held.pop(key)
        with suppress(OSError):  # Windows does not remove open files; the next run without others will
            self._path(key).unlink()
        unlock(file)
        file.close()

    def descriptor(self, key: str) -> int:
        """File descriptor of a claim; a process with a copy of it shares the claim."""
        return self._held[key].fileno()

    def _path(self, key: str) -> Path:
        return self._results / CLAIMS / f"{key}.lock"


def open_lock(results: Path, name: str) -> IO[Any]:
    """Open a lock file of a results folder, beside the claims.

    Raises:
        InputError: the folder cannot be written to.
    """
    return _open(results / CLAIMS / f"{name}.lock", results)


def _is_at(file: IO[Any], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _open(path: Path, folder: Path) -> IO[Any]:
    try:
        if path.parent != folder:
            path.parent.mkdir(exist_ok=True)
        return path.open("w")
    except OSError as error:
        raise InputError(f"results folder {folder}: {error.strerror or error}; name another with --results") from None


def _taken(file: IO[Any], folder: Path, shared: bool = False, seconds: float = 0.0) -> bool:
    try:
        return lock(file, shared=shared, seconds=seconds)
    except OSError as error:
        raise InputError(
            f"results folder {folder}: cannot be locked ({error.strerror or error}); name one on a local disk "
            "with --results"
        ) from None
