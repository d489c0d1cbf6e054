"""Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747), from its four IDX files."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sgabench.datasets.base import Dataset
from sgabench.datasets.locate import fetch, first_with, not_found
from sgabench.errors import InputError

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class IdxFile:
    """One published file.

    Attributes:
        name: of the file; MNIST's have the same names: only the content differs.
        shape: of its content; its header has 4 bytes, and 4 more for each dimension.
        sha256: of the decompressed file; the compressed ones differ between distributors.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def header(self) -> int:
        """Bytes before the data."""
        return 4 + 4 * len(self.shape)


TRAIN_IMAGES = IdxFile(
    "train-images-idx3-ubyte.gz",
    (60_000, 28, 28),
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
)
TRAIN_LABELS = IdxFile(
    "train-labels-idx1-ubyte.gz",
    (60_000,),
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
)
TEST_IMAGES = IdxFile(
    "t10k-images-idx3-ubyte.gz",
    (10_000, 28, 28),
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
)
TEST_LABELS = IdxFile(
    "t10k-labels-idx1-ubyte.gz",
    (10_000,),
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def load_fashion_mnist(data_dir: Path, download: bool) -> Dataset:
    """60,000 + 10,000 grey images of 28 x 28 pixels.

    Args:
        data_dir: has the four files, or has them in `FashionMNIST/raw` or `fashion-mnist`; otherwise the folder of
            Debian's package dataset-fashion-mnist is used.
        download: fetch them (30 MB) if they are not found.

    Raises:
        InputError: missing and not downloaded, or damaged.
    """
    name = "fashion_mnist"
    raw = Path("FashionMNIST") / "raw"
    candidates = [data_dir, data_dir / raw, data_dir / "fashion-mnist", DEBIAN_FOLDER]
    folder = first_with(candidates, [file.name for file in FILES])
    if folder is None:
        how = "install Debian's package dataset-fashion-mnist or put the files there by hand"
        if not download:
            wanted = f"{TRAIN_IMAGES.name}, FashionMNIST/raw or fashion-mnist"
            raise not_found(name, wanted, data_dir, f"{how}, or allow the download (30 MB)")
        folder = fetch(name, data_dir, "FashionMNIST", _download, how) / "raw"
    return Dataset(
        name=name,
        classes=CLASSES,
        train_images=read_idx(folder, TRAIN_IMAGES)[:, None],
        train_labels=read_idx(folder, TRAIN_LABELS).long(),
        test_images=read_idx(folder, TEST_IMAGES)[:, None],
        test_labels=read_idx(folder, TEST_LABELS).long(),
    )


def read_idx(folder: Path, file: IdxFile) -> Tensor:
    """Read one file.

    Returns:
        uint8, of the file's shape.

    Raises:
        InputError: missing, unreadable, or not what was published.
    """
    path = folder / file.name
    expected = file.header + torch.Size(file.shape).numel()
    try:
        with gzip.open(path) as stream:
            content = stream.read(expected + 1)  # no more: a small file may decompress to anything
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) != expected:
        found = f"{len(content)}" if len(content) < expected else "more"
        raise InputError(f"{path}: damaged: expected {expected} bytes decompressed, found {found}")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise InputError(f"{path}: damaged, or not Fashion-MNIST: its content is not the published one")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=file.header).reshape(file.shape)


def _download(folder: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(folder, download=True)
