"""Folders of images as a data set; no torch until images are loaded."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgabench.errors import InputError, foreign
from sgabench.system.memory import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sgabench.datasets.base import Dataset

SPLITS = ("train", "test")
EIGHT_BIT_MODES = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
)
# Formats of pictures alone: Pillow reads others by running programs, or takes them for one by their names.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
MAX_FILE_BYTES = 1_000_000_000
MAX_PIXELS = 500_000_000_000  # of all images together: hours of decoding
DECODING_BYTES = 8  # a pixel, twice, while it is converted


@dataclass(frozen=True)
class ImageFile:
    """One file of a folder data set.

    Attributes:
        path: where it is.
        label: index of its class folder among the sorted ones.
    """

    path: Path
    label: int


def folder_fingerprint(data_dir: Path, options: Mapping[str, Any]) -> str:
    """Identify the content of a folder data set: relative name and bytes of every file.

    Args:
        data_dir: what a relative path is relative to.
        options: the options of data set `folder`.

    Returns:
        16 hexadecimal digits, the same wherever the folder lies.

    Raises:
        InputError: the folder is not there, or is not laid out as a data set.
    """
    root, _, files = list_folder(data_dir, options["path"])
    digest = hashlib.sha256()
    for split in SPLITS:
        for file in files[split]:
            with file.path.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            digest.update(f"{file.path.relative_to(root).as_posix()}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def list_folder(data_dir: Path, path: str) -> tuple[Path, tuple[str, ...], dict[str, list[ImageFile]]]:
    """Find the images; what starts with a dot is skipped.

    Returns:
        The folder, the names of the classes, and the files of each split in order of class and name.

    Raises:
        InputError: a split or its images are missing, the splits have different classes, or something
            lies where it should not.
    """
    try:
        root = data_dir / Path(path).expanduser()
        found = root.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"data set 'folder': path: {error}") from None
    if not found:
        raise InputError(f"data set 'folder': path: no folder {root}")
    classes: dict[str, list[str]] = {}
    files: dict[str, list[ImageFile]] = {}
    for split in SPLITS:
        if not (root / split).is_dir():
            raise InputError(f"data set 'folder': no folder {root / split}; expected {split}/CLASS/IMAGES")
        entries = _visible(root / split)
        stray = next((entry for entry in entries if not entry.is_dir()), None)
        if stray:
            raise InputError(f"data set 'folder': {stray} is not a folder; images lie in {split}/CLASS/")
        classes[split] = [entry.name for entry in entries]
        files[split] = [file for label, entry in enumerate(entries) for file in _images_of_class(entry, label)]
    if classes["train"] != classes["test"]:
        name = sorted(set(classes["train"]) ^ set(classes["test"]))[0]
        has, lacks = SPLITS if name in classes["train"] else reversed(SPLITS)
        raise InputError(f"data set 'folder': {root}: class {name!r} is in {has} but not in {lacks}")
    if not classes["train"]:
        raise InputError(f"data set 'folder': {root / 'train'} has no class folders")
    return root, tuple(classes["train"]), files


def load_folder(data_dir: Path, path: str, image_size: int, channels: int) -> Dataset:
    """Read every image, crop its centre to a square and resize it.

    Args:
        data_dir: what a relative path is relative to.
        path: has train/CLASS/* and test/CLASS/*.
        image_size: height and width of what a model sees, in pixels.
        channels: 1 (grey) or 3 (colour).

    Raises:
        InputError: the folder is not a data set, an image cannot be read (the message names it), or all of them
            together do not fit into memory.
    """
    import numpy as np
    import torch

    from sgabench.datasets.base import Dataset

    root, classes, files = list_folder(data_dir, path)
    _check_size(root, [file.path for split in SPLITS for file in files[split]], image_size**2 * channels)
    arrays = {}
    for split in SPLITS:
        images = np.empty((len(files[split]), channels, image_size, image_size), dtype=np.uint8)
        for index, file in enumerate(files[split]):
            images[index] = read_image(file.path, image_size, channels)
        arrays[split] = images, np.array([file.label for file in files[split]], dtype=np.int64)
    train, test = ((torch.from_numpy(images), torch.from_numpy(labels)) for images, labels in arrays.values())
    return Dataset("folder", classes, *train, *test)


def _check_size(root: Path, paths: Sequence[Path], image_bytes: int) -> None:
    """Look at the first bytes of every image, and refuse what cannot be decoded or held."""
    pixels = []
    for path in paths:
        with _opened(path) as image:
            pixels.append(image.width * image.height)
    if sum(pixels) > MAX_PIXELS:
        raise InputError(
            f"data set 'folder': {root}: {len(paths)} images of {sum(pixels) / 1e9:.0f} gigapixels together; at most "
            f"{MAX_PIXELS // 10**9} are decoded at every run: make them smaller first"
        )
    what = f"data set 'folder': {root}: {len(paths)} images of {image_bytes} bytes each"
    require(len(paths) * image_bytes + max(pixels) * DECODING_BYTES, what)


def read_image(path: Path, image_size: int, channels: int) -> NDArray[np.uint8]:
    """Read one image.

    Returns:
        uint8 (channels, image_size, image_size).

    Raises:
        InputError: it cannot be read, is of no known format, has more than one frame or more than 8 bits a sample,
            or is so large that it looks like a decompression bomb (Pillow's limit, about 90 million pixels).
    """
    import numpy as np
    from PIL import Image

    with _opened(path) as image:
        converted = image.convert("L" if channels == 1 else "RGB")
    side = min(converted.size)
    left, top = (converted.width - side) // 2, (converted.height - side) // 2
    square = converted.crop((left, top, left + side, top + side))
    resized = square.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(image_size, image_size, channels).transpose(2, 0, 1)


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """An image that is not decoded yet; whatever fails inside names it."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]  # which, depends on how Pillow was built
    with foreign(f"{path}: cannot be read as an image (", ")"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path, formats=known) as image:
                    if image.mode not in EIGHT_BIT_MODES:
                        raise InputError(f"{path}: samples of mode {image.mode!r}; only 8-bit images can be used")
                    if getattr(image, "is_animated", False) and image.format != "MPO":  # a photograph with its previews
                        raise InputError(f"{path}: has more than one frame; only still images can be used")
                    yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise InputError(f"{path}: larger than {Image.MAX_IMAGE_PIXELS} pixels; not decoded") from None
        except UnidentifiedImageError as error:
            raise InputError(f"{path}: cannot be read as an image (none of {', '.join(known)})") from error


def _visible(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"data set 'folder': {folder}: {error.strerror or error}") from None
    return sorted(entries, key=lambda entry: entry.name)


def _images_of_class(folder: Path, label: int) -> list[ImageFile]:
    entries = _visible(folder)
    stray = next((entry for entry in entries if not entry.is_file()), None)
    if stray:
        raise InputError(f"data set 'folder': {stray} is not a file; images lie directly in {folder}")
    if not entries:
        raise InputError(f"data set 'folder': class {folder.name!r} has no images in {folder}")
    large = next((entry for entry in entries if entry.stat().st_size > MAX_FILE_BYTES), None)
    if large:
        raise InputError(f"data set 'folder': {large}: larger than {MAX_FILE_BYTES // 10**9} GB: not an image")
    return [ImageFile(entry, label) for entry in entries]
