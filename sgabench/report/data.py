"""A listing of data sets, for the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgabench.datasets.folders import Listing, list_folder
from sgabench.datasets.huggingface import SAVED
from sgabench.datasets.ilsvrc import list_imagenet
from sgabench.datasets.places import LAYOUTS, find
from sgabench.datasets.prepared import about_all, cache_folder
from sgabench.errors import InputError
from sgabench.plugins.registry import datasets
from sgabench.system.memory import in_words

_SUFFIXES = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".ppm", ".tif", ".tiff", ".webp")

_Row = tuple[str, str, str, str, str]


def print_data(data_dir: Path) -> None:
    """Print the data sets that are in the data folder or can be, and the decoded images."""
    _print(("data set", "images", "classes", "on disk", "where"), [*_published(data_dir), *_folders(data_dir)])
    prepared = [
        (
            str(about["root"]),
            f"{about['channels']} x {about['image_size']} x {about['image_size']}",
            in_words(size),
            place,
        )
        for place, size, about in about_all(data_dir)
    ]
    if prepared:
        print()
        _print(("decoded images of", "size", "on disk", f"in {cache_folder(data_dir)}"), prepared)


def _published(data_dir: Path) -> Iterator[_Row]:
    for plugin in datasets.plugins():
        if not (images := plugin.tags.get("images")):
            continue
        folder, missing = find(data_dir, LAYOUTS.get(plugin.name, []))
        where = "downloaded when needed" if folder is None else str(folder)
        if plugin.name not in LAYOUTS:
            where = "comes along"
        elif missing:
            where += f" lacks {', '.join(missing[:2])}{', ...' if len(missing) > 2 else ''}"
        size = "" if folder is None else in_words(_size_of(folder, plugin.name))
        yield (
            plugin.name,
            " + ".join(f"{number:,}" for number in images),
            str(plugin.tags.get("classes", "")),
            size,
            where,
        )


def _size_of(folder: Path, name: str) -> int:
    files = next(files for place, files in LAYOUTS[name] if any((folder / file).is_file() for file in files))
    if name == "tiny_imagenet":
        return sum(path.stat().st_size for path in folder.rglob("*.*"))
    return sum((folder / file).stat().st_size for file in files if (folder / file).is_file())


def _folders(data_dir: Path) -> Iterator[_Row]:
    """Folders in the data folder with the layout of the user's own images, or of ImageNet."""
    try:
        entries = sorted(entry for entry in data_dir.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return
    for entry in entries:
        if (saved := _saved(entry)) is not None:
            yield saved
            continue
        named = _as_data_set(data_dir, entry)
        if named is not None:
            name, listing = named
            counts = " + ".join(f"{len(files):,}" for files in listing.files.values())
            size = sum(file.path.stat().st_size for file in listing.all_files)
            yield f"{name}:{entry.name}", counts, str(len(listing.classes)), in_words(size), str(entry)


def _saved(folder: Path) -> _Row | None:
    """Data sets saved by Hugging Face's library; their rows are not counted, because only the library can."""
    if not any((folder / name).is_file() for name in SAVED):
        return None
    size = sum(file.stat().st_size for file in folder.rglob("*.arrow"))
    return f"huggingface:{folder.name}", "", "", in_words(size), str(folder)


def _as_data_set(data_dir: Path, folder: Path) -> tuple[str, Listing] | None:
    try:
        if (folder / "train").is_dir() and (folder / "val").is_dir() and not (folder / "test").is_dir():
            name, listing = "imagenet", list_imagenet(data_dir, folder.name)
        else:
            name, listing = "folder", list_folder(data_dir, folder.name, drawn=not (folder / "train").is_dir())
    except InputError:
        return None
    first = {file.label: file.path.suffix.lower() for file in listing.all_files}
    return (name, listing) if all(suffix in _SUFFIXES for suffix in first.values()) else None


def _print(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    view = Table(header_style="bold", pad_edge=False)
    for heading in headings:
        view.add_column(heading, overflow="fold")
    for row in rows:
        view.add_row(*map(Text, row))
    width = shutil.get_terminal_size((160, 24)).columns
    Console(file=sys.stdout, width=max(width, 80)).print(view)
