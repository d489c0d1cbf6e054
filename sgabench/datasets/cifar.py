"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the official binary or Python files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgabench.datasets.base import Dataset
from sgabench.datasets.cifar_classes import CIFAR10_CLASSES, COARSE_OF_FINE, COARSE_TO_FINE, FINE_CLASSES
from sgabench.datasets.locate import fetch, first_with, not_found
from sgabench.errors import InputError

PIXELS = 3 * 32 * 32  # bytes of an image: the red plane, then green, then blue, row by row
Examples = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images (N, 3, 32, 32) and labels (N,)


def load_cifar10(data_dir: Path, download: bool) -> Dataset:
    """50,000 + 10,000 images of 10 classes.

    Args:
        data_dir: has the folder `cifar-10-batches-bin` or `cifar-10-batches-py`, or is one of them.
        download: fetch the Python files (170 MB) if there is neither.

    Raises:
        InputError: missing and not downloaded, or damaged.
    """
    train_files = [f"data_batch_{number}.bin" for number in range(1, 6)]
    folder = first_with([data_dir / "cifar-10-batches-bin", data_dir], [*train_files, "test_batch.bin"])
    if folder is None:
        train, test = _python_files("cifar10", "CIFAR10", data_dir, download, "cifar-10-batches-bin")
    else:
        train = _concatenate([read_cifar10(folder / file) for file in train_files])
        test = read_cifar10(folder / "test_batch.bin")
    return _dataset("cifar10", CIFAR10_CLASSES, train, test)


def load_cifar100(data_dir: Path, download: bool, labels: Literal["fine", "coarse"]) -> Dataset:
    """50,000 + 10,000 images of 100 classes, or of the 20 groups of five that these form.

    Args:
        data_dir: has the folder `cifar-100-binary` or `cifar-100-python`, or is one of them.
        download: fetch the Python files (170 MB) if there is neither.
        labels: which of the two labels of an image to use.

    Raises:
        InputError: missing and not downloaded, or damaged.
    """
    folder = first_with([data_dir / "cifar-100-binary", data_dir], ["train.bin", "test.bin"])
    if folder is None:
        train, test = _python_files("cifar100", "CIFAR100", data_dir, download, "cifar-100-binary")
    else:
        train = read_cifar100(folder / "train.bin", records=50_000)
        test = read_cifar100(folder / "test.bin")
    if labels == "fine":
        return _dataset("cifar100", FINE_CLASSES, train, test)
    groups = np.array(COARSE_OF_FINE)
    grouped = [(images, groups[fine]) for images, fine in (train, test)]
    return _dataset("cifar100", tuple(COARSE_TO_FINE), *grouped)


def read_cifar10(path: Path, records: int = 10_000) -> Examples:
    """Read a binary file of CIFAR-10: of each record one byte label, then the pixels.

    Raises:
        InputError: the file is missing, not as long as `records` records, or has an impossible label.
    """
    table = _read_records(path, records, label_bytes=1)
    labels = _checked(path, table[:, 0], len(CIFAR10_CLASSES))
    return table[:, 1:].reshape(-1, 3, 32, 32), labels


def read_cifar100(path: Path, records: int = 10_000) -> Examples:
    """Read a binary file of CIFAR-100: of each record a coarse and a fine label, then the pixels.

    Returns:
        Images and fine labels; these determine the coarse ones.

    Raises:
        InputError: as `read_cifar10`, or a coarse label that does not belong to the fine one.
    """
    table = _read_records(path, records, label_bytes=2)
    fine = _checked(path, table[:, 1], len(FINE_CLASSES))
    wrong = np.flatnonzero(np.array(COARSE_OF_FINE)[fine] != table[:, 0])
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"{path}: damaged: record {first} has the coarse label {table[first, 0]}, "
            f"but its fine label {fine[first]} belongs to {COARSE_OF_FINE[fine[first]]}"
        )
    return table[:, 2:].reshape(-1, 3, 32, 32), fine


def _read_records(path: Path, records: int, label_bytes: int) -> NDArray[np.uint8]:
    length = label_bytes + PIXELS
    try:
        found = path.stat().st_size
        if found != records * length:
            raise InputError(f"{path}: damaged: expected {records * length} bytes ({records} records), found {found}")
        return np.fromfile(path, dtype=np.uint8).reshape(records, length)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def _checked(path: Path, labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    wrong = np.flatnonzero(labels >= classes)
    if len(wrong):
        first = int(wrong[0])
        raise InputError(f"{path}: damaged: record {first} has the label {labels[first]}; valid: 0 to {classes - 1}")
    return labels.astype(np.int64)


def _python_files(
    name: str, reader_name: str, data_dir: Path, download: bool, binary_folder: str
) -> tuple[Examples, Examples]:
    from torchvision import datasets as torchvision_datasets

    reader = getattr(torchvision_datasets, reader_name)
    # the names of CIFAR-100's files are too common to be looked for in data_dir itself, unless it is named so
    candidates = [data_dir / reader.base_folder]
    if data_dir.resolve().name == reader.base_folder:
        candidates.append(data_dir)
    folder = first_with(candidates, [file for file, _ in (*reader.train_list, *reader.test_list)])
    if folder is None:
        layouts = f"folder {binary_folder} or {reader.base_folder}"
        how = "put one there by hand"
        if not download:
            raise not_found(name, layouts, data_dir, f"{how}, or allow the download (170 MB)")
        folder = fetch(
            name,
            data_dir,
            reader.base_folder,
            lambda beside: reader(beside, download=True),
            f"{how} ({layouts})",
        )
    return _unpickle(reader, folder, train=True), _unpickle(reader, folder, train=False)


def _unpickle(reader: Any, folder: Path, train: bool) -> Examples:
    """Read pickled files after comparing each with its published checksum: a pickle can run code."""
    from torchvision.datasets.utils import check_integrity

    expected = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
    for file, checksum in expected:
        if not check_integrity(folder / file, checksum):
            problem = "damaged: its checksum is not the published one" if (folder / file).is_file() else "is missing"
            raise InputError(f"{folder / file}: {problem}; remove {folder} to have it downloaded again")
    examples = reader(folder.resolve().parent, train=train)
    images = np.ascontiguousarray(examples.data.transpose(0, 3, 1, 2))
    return images, np.array(examples.targets, dtype=np.int64)


def _concatenate(parts: Sequence[Examples]) -> Examples:
    images = np.concatenate([images for images, _ in parts])
    return images, np.concatenate([labels for _, labels in parts])


def _dataset(name: str, classes: tuple[str, ...], train: Examples, test: Examples) -> Dataset:
    def tensors(examples: Examples) -> tuple[Tensor, Tensor]:
        images, labels = examples
        return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels)

    return Dataset(name, classes, *tensors(train), *tensors(test))
