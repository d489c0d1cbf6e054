"""The folder of a leaderboard."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sgabench.errors import InputError

FAILURES = "failures.txt"


def prepare_folder(folder: Path) -> Path:
    """Make the folder of a leaderboard, before anything is computed for it.

    Raises:
        InputError: it cannot be written.
    """
    taken = next((path for path in leaderboard_files(folder) if path.is_dir()), None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if taken or not os.access(folder, os.W_OK):
            raise OSError(errno.EACCES, f"{taken} is a folder" if taken else "cannot be written")
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; name another folder with --results") from None
    return folder


def leaderboard_files(folder: Path) -> tuple[Path, Path, Path]:
    """The files of a leaderboard: Markdown, CSV, and failures."""
    return folder / "leaderboard.md", folder / "leaderboard.csv", folder / FAILURES
