"""SVHN (Netzer et al. 2011), cropped house numbers, from its MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgabench.datasets.base import Dataset
from sgabench.datasets.locate import fetch, first_with, not_found
from sgabench.errors import InputError, foreign

FOLDER = "svhn"
SPLITS = ("train", "test")


def load_svhn(data_dir: Path, download: bool) -> Dataset:
    """73,257 + 26,032 images of 10 digits, 3 x 32 x 32; the additional, simpler ones are not used.

    Args:
        data_dir: has `train_32x32.mat` and `test_32x32.mat`, or has them in `svhn`.
        download: fetch them (250 MB) if they are not found.

    Raises:
        InputError: missing and not downloaded, or not what was published.
    """
    from torchvision.datasets import SVHN

    names = [SVHN.split_list[split][1] for split in SPLITS]
    folder = first_with([data_dir, data_dir / FOLDER], names)
    if folder is None:
        how = "put them there by hand"
        if not download:
            raise not_found("svhn", " and ".join(names), data_dir, f"{how}, or allow the download (250 MB)")
        folder = fetch("svhn", data_dir, FOLDER, _download, how)
    train, test = (_read(folder / SVHN.split_list[split][1], SVHN.split_list[split][2]) for split in SPLITS)
    return Dataset("svhn", tuple(map(str, range(10))), *train, *test)


def _read(path: Path, md5: str) -> tuple[Tensor, Tensor]:
    from scipy.io import loadmat
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(path, md5):
        problem = "damaged: its checksum is not the published one" if path.is_file() else "is missing"
        raise InputError(f"{path}: {problem}; remove {path.parent} to have it downloaded again")
    with foreign(f"{path}: cannot be read: "):
        content: Any = loadmat(path)
        images, labels = content["X"], content["y"]
    digits = labels.astype(np.int64).reshape(-1) % 10  # 10 stands for 0
    return torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1))), torch.from_numpy(digits)


def _download(beside: Path) -> None:
    from torchvision.datasets import SVHN

    for split in SPLITS:
        SVHN(beside / FOLDER, split, download=True)
