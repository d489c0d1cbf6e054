"""Folders of images as a data set; no torch until images are loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sgabench.datasets.decoding import Decoding
from sgabench.datasets.pictures import Background, Source
from sgabench.datasets.prepared import Prepared, images_of
from sgabench.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from sgabench.datasets.base import Dataset

SPLITS = ("train", "test")
MAX_FILE_BYTES = 1_000_000_000


class DrawnSplit(BaseModel):
    """How to draw a test split from a folder that has none.

    Attributes:
        test: share of the images of each class.
        seed: of the drawing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    test: Annotated[float, Field(strict=True, gt=0, lt=1)]
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0


@dataclass(frozen=True)
class ImageFile:
    """One image of a listing.

    Attributes:
        source: its file, or its content where it has no file of its own.
        label: index of its class folder among the sorted ones.
    """

    source: Source
    label: int

    @property
    def path(self) -> Path:
        """The path of an image that has its own file."""
        assert isinstance(self.source, Path)
        return self.source


@dataclass(frozen=True)
class Listing:
    """The files of a folder data set.

    Attributes:
        root: the folder.
        classes: their names.
        files: of each published split, or all of them under "", in order of class and name.
        stored: the files that contain the images, if these have none of their own.
    """

    root: Path
    classes: tuple[str, ...]
    files: Mapping[str, Sequence[ImageFile]]
    stored: Sequence[Path] = ()

    @property
    def all_files(self) -> list[ImageFile]:
        """The files of all splits."""
        return [file for files in self.files.values() for file in files]


def folder_fingerprint(data_dir: Path, options: Mapping[str, Any]) -> str:
    """Identify the content of a folder data set: relative name and bytes of every file.

    Args:
        data_dir: base of a relative path.
        options: the options of data set `folder`.

    Returns:
        16 hexadecimal digits, the same wherever the folder lies.

    Raises:
        InputError: the folder does not exist, or does not have the layout of a data set.
    """
    listing = folder_listing(data_dir, options)
    digest = hashlib.sha256()
    for file in listing.all_files:
        with file.path.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        name = file.path.relative_to(listing.root).as_posix()
        digest.update(f"{name}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def folder_listing(data_dir: Path, options: Mapping[str, Any]) -> Listing:
    """The files of data set `folder` with these options; as `list_folder`."""
    return list_folder(data_dir, options["path"], drawn=options.get("split") is not None)


def list_folder(data_dir: Path, path: str, *, drawn: bool) -> Listing:
    """Find the images; names that start with a dot are skipped.

    Args:
        data_dir: base of a relative path.
        path: of the folder.
        drawn: it has only class folders, and a split will be drawn.

    Raises:
        InputError: a split or its images are missing, the splits have different classes, or there are misplaced files.
    """
    try:
        root = data_dir / Path(path).expanduser()
        found = root.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"data set 'folder': path: {error}") from None
    if not found:
        raise InputError(f"data set 'folder': path: no folder {root}")
    there = [split for split in SPLITS if (root / split).is_dir()]
    if drawn and there:
        raise InputError(f"data set 'folder': split: {root} already has {' and '.join(there)}; leave split out")
    alone = "; for CLASS/IMAGES alone, set split = {test = 0.2} (for a command: --set datasets.1.split={test=0.2})"
    hint = "" if there else alone
    return list_splits("folder", root, {"": ""} if drawn else {split: split for split in SPLITS}, hint)


def list_splits(name: str, root: Path, folders: Mapping[str, str], hint: str = "") -> Listing:
    """Find the images of each split: FOLDER/CLASS/IMAGES.

    Args:
        name: of the data set, for messages.
        root: the folder.
        folders: of each split, in it.
        hint: for the message if one is missing.

    Raises:
        InputError: as `list_folder`.
    """
    classes: dict[str, tuple[str, ...]] = {}
    files: dict[str, list[ImageFile]] = {}
    for split, folder in folders.items():
        if not (root / folder).is_dir():
            raise InputError(f"data set {name!r}: no folder {root / folder}; expected {folder}/CLASS/IMAGES{hint}")
        classes[split], files[split] = _list_split(name, root / folder, f"{folder}/CLASS/".lstrip("/"))
    first, *others = classes
    for other in others:
        if classes[first] != classes[other]:
            odd = sorted(set(classes[first]) ^ set(classes[other]))[0]
            has, lacks = (first, other) if odd in classes[first] else (other, first)
            raise InputError(
                f"data set {name!r}: {root}: class {odd!r} is in {folders[has]} but not in {folders[lacks]}"
            )
    if not classes[first]:
        raise InputError(f"data set {name!r}: {root / folders[first]} has no class folders")
    return Listing(root, classes[first], files)


def _list_split(name: str, folder: Path, layout: str) -> tuple[tuple[str, ...], list[ImageFile]]:
    entries = _visible(name, folder)
    stray = next((entry for entry in entries if not entry.is_dir()), None)
    if stray:
        raise InputError(f"data set {name!r}: {stray} is not a folder; images belong in {layout}")
    files = [file for label, entry in enumerate(entries) for file in images_in(name, entry, label)]
    return tuple(entry.name for entry in entries), files


def load_folder(
    data_dir: Path, path: str, image_size: int, channels: int, background: Background, drawn: DrawnSplit | None
) -> Dataset:
    """Read every image, crop its centre to a square and resize it.

    Args:
        data_dir: base of a relative path.
        path: has train/CLASS/* and test/CLASS/*, or CLASS/* if the split is drawn.
        image_size: height and width of a model's input, in pixels.
        channels: 1 (grey) or 3 (colour).
        background: visible through transparent parts.
        drawn: how to draw the split; None: there are two.

    Raises:
        InputError: the folder is not a data set, or an image cannot be read.
    """
    listing = list_folder(data_dir, path, drawn=drawn is not None)
    return load_listed("folder", listing, Decoding(image_size, channels, background), data_dir, drawn)


def load_listed(
    name: str, listing: Listing, decoding: Decoding, data_dir: Path, drawn: DrawnSplit | None = None
) -> Dataset:
    """The images of a listing, in memory or streamed.

    Raises:
        InputError: as `images_of`; or no split can be drawn.
    """
    import torch

    from sgabench.datasets.base import Dataset
    from sgabench.datasets.streamed import part_of

    files = listing.all_files
    labels = torch.tensor([file.label for file in files])
    rows = _published(listing) if drawn is None else _draw(name, listing, labels, drawn)
    sources = [file.source for file in files]
    images = images_of(Prepared.of(name, listing.root, sources, decoding, data_dir, listing.stored))
    train, test = ((part_of(images, rows[split]), labels[rows[split]]) for split in SPLITS)
    return Dataset(name, listing.classes, *train, *test)


def _published(listing: Listing) -> dict[str, slice]:
    """The range of images of each split."""
    first = len(listing.files["train"])
    return {"train": slice(first), "test": slice(first, None)}


def _draw(name: str, listing: Listing, labels: Tensor, drawn: DrawnSplit) -> dict[str, Tensor]:
    """Draw the test split class by class; the images keep their order."""
    import torch

    from sgabench.datasets.base import stratified_choice

    size = round(drawn.test * len(labels))
    chosen = stratified_choice(labels, size, f"test split of folder {drawn.seed}")
    totals, of_test = (torch.bincount(some, minlength=len(listing.classes)) for some in (labels, labels[chosen]))
    for label, total, tested in zip(listing.classes, totals.tolist(), of_test.tolist(), strict=True):
        if not 0 < tested < total:
            raise InputError(
                f"data set {name!r}: split: test = {drawn.test:g} gives class {label!r} {tested} test and "
                f"{total - tested} training images of its {total}; it needs both"
            )
    in_training = torch.ones(len(labels), dtype=torch.bool)
    in_training[chosen] = False
    return {"train": in_training.nonzero()[:, 0], "test": chosen}


def _visible(name: str, folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"data set {name!r}: {folder}: {error.strerror or error}") from None
    return sorted(entries, key=lambda entry: entry.name)


def images_in(name: str, folder: Path, label: int) -> list[ImageFile]:
    """The images of a class.

    Raises:
        InputError: there are none, or there are other files.
    """
    entries = _visible(name, folder)
    stray = next((entry for entry in entries if not entry.is_file()), None)
    if stray:
        raise InputError(f"data set {name!r}: {stray} is not a file; images belong directly in {folder}")
    if not entries:
        raise InputError(f"data set {name!r}: class {folder.name!r} has no images in {folder}")
    large = next((entry for entry in entries if entry.stat().st_size > MAX_FILE_BYTES), None)
    if large:
        raise InputError(f"data set {name!r}: {large}: larger than {MAX_FILE_BYTES // 10**9} GB: not an image")
    return [ImageFile(entry, label) for entry in entries]
