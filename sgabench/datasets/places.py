"""Where published data sets are searched for, without reading them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# For each data set, the folders that may contain it, and the files that must be in them.
_CIFAR10 = [f"data_batch_{number}" for number in range(1, 6)]
_IDX = [f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
_SVHN = ["train_32x32.mat", "test_32x32.mat"]
_CIFAR10_BIN = [f"{name}.bin" for name in [*_CIFAR10, "test_batch"]]
LAYOUTS: dict[str, list[tuple[str, list[str]]]] = {
    "cifar10": [
        ("cifar-10-batches-bin", _CIFAR10_BIN),
        (".", _CIFAR10_BIN),
        ("cifar-10-batches-py", [*_CIFAR10, "test_batch", "batches.meta"]),
    ],
    "cifar100": [
        ("cifar-100-binary", ["train.bin", "test.bin"]),
        (".", ["train.bin", "test.bin"]),
        ("cifar-100-python", ["train", "test", "meta"]),
    ],
    "svhn": [(folder, _SVHN) for folder in (".", "svhn")],
    "tiny_imagenet": [("tiny-imagenet-200", ["wnids.txt", "val/val_annotations.txt"])],
    "fashion_mnist": [
        (".", _IDX),
        ("FashionMNIST/raw", _IDX),
        ("fashion-mnist", _IDX),
        ("/usr/share/datasets/fashion-mnist", _IDX),
    ],
}


def find(data_dir: Path, layouts: Iterable[tuple[str, list[str]]]) -> tuple[Path | None, list[str]]:
    """The first folder with any of the files, and what it lacks; searched as by the data sets."""
    for folder, files in layouts:
        itself = data_dir.resolve().name == folder
        candidate = data_dir if itself else data_dir / folder
        missing = [file for file in files if not (candidate / file).is_file()]
        if len(missing) < len(files):
            return candidate, missing
    return None, []
