"""Find the files of a published data set, or download them once."""

from __future__ import annotations

import contextlib
import io
import socket
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sgabench.errors import InputError

TIMEOUT = 10.0  # seconds that a server may be silent


def first_with(candidates: Iterable[Path], files: Iterable[str]) -> Path | None:
    """The first folder that has any of the files; unreadable ones count as absent.

    Any, so that the reader names the file that an incomplete folder lacks.
    """
    names = list(files)
    for candidate in candidates:
        with contextlib.suppress(OSError):
            if any((candidate / name).is_file() for name in names):
                return candidate
    return None


def not_found(name: str, wanted: str, data_dir: Path, how: str) -> InputError:
    """The error for a data set that is missing and may not be downloaded."""
    return InputError(f"data set {name!r}: no {wanted} in {data_dir}; {how}")


def fetch(name: str, data_dir: Path, folder: str, download: Callable[[Path], object], how: str) -> Path:
    """Download a folder into `data_dir`: completely, or not at all.

    It is filled under a temporary name and then moved into place, so that an interrupted download leaves nothing that
    looks like data, and processes that download the same do no harm.

    Args:
        name: of the data set, for messages.
        data_dir: made if it does not exist.
        folder: that `download` creates inside its argument.
        download: does the work.
        how: what the user can do instead.

    Returns:
        `data_dir` / `folder`.

    Raises:
        InputError: no network, a damaged download, or nowhere to write.
    """
    from http.client import HTTPException

    target = data_dir / folder
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=data_dir) as beside:
            with _silence_limited():
                download(Path(beside))
            with contextlib.suppress(FileExistsError):
                _move(Path(beside) / folder, target)
    except (OSError, RuntimeError, HTTPException, EOFError, zlib.error) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"data set {name!r}: cannot download to {data_dir} ({cause}); {how}") from None
    return target


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:
        if target.is_dir():
            raise FileExistsError(target) from None
        raise


@contextlib.contextmanager
def _silence_limited() -> Iterator[None]:
    # torchvision's downloader has no timeout of its own, and prints when it tries a second address
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
