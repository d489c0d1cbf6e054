"""ImageNet (Russakovsky et al. 2015, arXiv 1409.0575) and Tiny ImageNet, from folders of JPEG files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgabench.datasets.decoding import Decoding
from sgabench.datasets.folders import ImageFile, Listing, images_in, list_splits, load_listed
from sgabench.datasets.locate import fetch, not_found
from sgabench.errors import InputError

if TYPE_CHECKING:
    from sgabench.datasets.base import Dataset

TINY = "tiny-imagenet-200"
TINY_URL = f"http://cs231n.stanford.edu/{TINY}.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
TINY_COUNTS = {"classes": 200, "train": 100_000, "val": 10_000}
ANNOTATIONS = "val_annotations.txt"


def load_imagenet(data_dir: Path, path: str, image_size: int) -> Dataset:
    """The training images, and those of the validation split for testing; the test split has no labels.

    Args:
        data_dir: base of a relative path.
        path: has train/CLASS/*.JPEG and val/CLASS/*.JPEG.
        image_size: height and width of a model's input.

    Raises:
        InputError: the folder does not exist, has another layout, or an image cannot be read.
    """
    return load_listed("imagenet", list_imagenet(data_dir, path), _decoding(image_size), data_dir)


def list_imagenet(data_dir: Path, path: str) -> Listing:
    """Find the images.

    Raises:
        InputError: as `load_imagenet`.
    """
    root = data_dir / Path(path).expanduser()
    if not root.is_dir():
        raise not_found(
            "imagenet", path, data_dir, "it cannot be downloaded: ask image-net.org; for one elsewhere, set path"
        )
    return list_splits("imagenet", root, {"train": "train", "test": "val"})


def imagenet_listing(data_dir: Path, options: Mapping[str, Any]) -> Listing:
    """The files of data set `imagenet` with these options; as `list_imagenet`."""
    return list_imagenet(data_dir, options["path"])


def imagenet_fingerprint(data_dir: Path, options: Mapping[str, Any]) -> str:
    """Identify the content by name and size of every file: reading 150 GB would take longer than many trainings.

    Returns:
        16 hexadecimal digits, the same wherever the folder lies.
    """
    listing = list_imagenet(data_dir, options["path"])
    digest = hashlib.sha256()
    for file in listing.all_files:
        name = file.path.relative_to(listing.root).as_posix()
        digest.update(f"{name}\0{file.path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def load_tiny_imagenet(data_dir: Path, download: bool, image_size: int) -> Dataset:
    """100,000 images, and the 10,000 of the validation split for testing; 200 classes of ImageNet, 64 x 64.

    Args:
        data_dir: has the folder `tiny-imagenet-200` with the layout of its archive, or is that folder.
        download: fetch the archive (248 MB) if there is none.
        image_size: height and width of a model's input.

    Raises:
        InputError: missing and not downloaded, or not as published.
    """
    root = _tiny_folder(data_dir)
    if not root.is_dir():
        if not download:
            how = f"unpack {TINY}.zip there, or allow the download (248 MB)"
            raise not_found("tiny_imagenet", f"folder {TINY}", data_dir, how)
        root = fetch("tiny_imagenet", data_dir, TINY, _download, f"unpack {TINY}.zip there by hand")
    return load_listed("tiny_imagenet", list_tiny_imagenet(root), _decoding(image_size), data_dir)


def tiny_imagenet_listing(data_dir: Path, options: Mapping[str, Any]) -> Listing:
    """The files of Tiny ImageNet, if it is present; as `list_tiny_imagenet`."""
    return list_tiny_imagenet(_tiny_folder(data_dir))


def _tiny_folder(data_dir: Path) -> Path:
    return data_dir if data_dir.resolve().name == TINY else data_dir / TINY


def list_tiny_imagenet(root: Path) -> Listing:
    """Find the images: train/CLASS/images/*, and val/images/* with the classes in val/val_annotations.txt.

    Raises:
        InputError: something is missing, or not as it was published.
    """
    name, train, val = "tiny_imagenet", root / "train", root / "val"
    try:
        classes = sorted(entry.name for entry in train.iterdir() if not entry.name.startswith("."))
        annotations = (val / ANNOTATIONS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"data set {name!r}: {error.filename}: {error.strerror}; unpack {TINY}.zip again") from None
    labels = {wnid: label for label, wnid in enumerate(classes)}
    trained = [file for wnid, label in labels.items() for file in images_in(name, train / wnid / "images", label)]
    tested = []
    for number, line in enumerate(annotations, 1):
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in labels or not (val / "images" / file).is_file() or Path(file).name != file:
            raise InputError(f"data set {name!r}: {val / ANNOTATIONS}: line {number}: no such image, or no such class")
        tested.append(ImageFile(val / "images" / file, labels[wnid]))
    found = {"classes": len(classes), "train": len(trained), "val": len(tested)}
    if found != TINY_COUNTS:
        raise InputError(f"data set {name!r}: {root}: has {_counts(found)}, not {_counts(TINY_COUNTS)}; unpack again")
    return Listing(root, tuple(classes), {"train": trained, "test": tested})


def _counts(counts: Mapping[str, int]) -> str:
    return f"{counts['classes']} classes, {counts['train']:,} training and {counts['val']:,} validation images"


def _decoding(image_size: int) -> Decoding:
    return Decoding(image_size, 3, "white")


def _download(folder: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(TINY_URL, folder, filename=f"{TINY}.zip", md5=TINY_MD5, remove_finished=True)
