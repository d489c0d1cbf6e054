"""Output files of commands: checked before anything else; irreplaceable files are only replaced with --force."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sgabench.errors import InputError

Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


def prepare_output(
    output: Path | None,
    sources: Sequence[Path | None],
    folders: Sequence[Path],
    *,
    replace: bool = True,
    option: str = "--output ",
) -> None:
    """Refuse an output that cannot be written, before anything is computed for it; its folder is created.

    Args:
        output: the file; None: the terminal.
        sources: what it is made from, which it must not replace.
        folders: results folders, which it must not damage.
        replace: whether it may replace a file.
        option: how messages call it.

    Raises:
        InputError: it is a folder, is protected, is there and must not be replaced, or would replace what it is made
            from.
    """
    if output is None:
        return
    where = f"{option}{output}"
    try:
        _refuse_to_damage(output, sources, folders, where)
        _make_folder(output.parent, where)
        if output.is_dir():
            raise InputError(f"{where}: is a folder; name a file")
        if not replace and output.is_file():
            raise InputError(f"{where}: already exists; name another file, or pass --force to replace it")
        # A file is replaced by a new one beside it; a device or a pipe is written to.
        place = output if output.exists() and not output.is_file() else output.resolve().parent
        if not os.access(place, os.W_OK):
            raise InputError(f"{where}: {place} is not writable; name another file")
    except OSError as error:
        raise InputError(f"{where}: {error.strerror or error}") from None


def prepare_figures(folder: Path | None) -> None:
    """Create a folder for figures, or refuse it before anything is computed for them.

    Raises:
        InputError: it cannot be made or written, or there is nothing to draw with.
    """
    if folder is None:
        return
    from sgabench.report.static import require_matplotlib

    require_matplotlib()
    prepare_folder(folder, (), option="--figures ")


def prepare_folder(folder: Path, folders: Sequence[Path], *, option: str = "--output ") -> None:
    """Create a folder, or refuse it if it cannot be written, before anything is computed for it.

    Args:
        folder: where files are to be written.
        folders: results folders, which it must not damage.
        option: how messages call it.

    Raises:
        InputError: it cannot be made or written, or is a part of a results folder.
    """
    where = f"{option}{folder}"
    try:
        _refuse_to_damage(folder / "file", (), folders, where)
        _make_folder(folder, where)
        if not os.access(folder, os.W_OK):
            raise InputError(f"{where}: is not writable; name another folder")
    except OSError as error:
        raise InputError(f"{where}: {error.strerror or error}") from None


def write(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file that `prepare_output` has checked."""
    from sgabench.store.store import write_atomically

    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        if output.exists() and not output.is_file():
            output.write_text(text, encoding="utf-8")
        else:
            write_atomically(output.resolve(), text.encode())
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror or error}") from None


def _make_folder(folder: Path, where: str) -> None:
    for above in (folder, *folder.parents):
        if above.exists() and not above.is_dir():
            raise InputError(f"{where}: {above} is not a folder; name another place")
    folder.resolve().mkdir(parents=True, exist_ok=True)


def _refuse_to_damage(output: Path, sources: Sequence[Path | None], folders: Sequence[Path], where: str) -> None:
    """An output must be none of the files it is made from, and nothing that a results folder consists of."""
    target = output.resolve()
    if target in [path.resolve() for path in sources if path]:
        raise InputError(f"{where}: would replace what it is made from; name another file")
    for folder in (folder.resolve() for folder in folders):
        database = target.parent == folder and target.name.startswith(("store.sqlite", "tuning.sqlite", ".lock"))
        if database or {folder / "weights", folder / "snapshots", folder / "claims"} & {*target.parents}:
            raise InputError(f"{where}: would damage the results folder; name another file")
