"""SVHN from files of MATLAB, with a few images in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision.datasets import SVHN

from sgabench.errors import InputError
from sgabench.plugins import datasets

IMAGES = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 12), dtype=np.uint8)
LABELS = np.array([[1], [2], [3], [4], [5], [6], [7], [8], [9], [10], [10], [1]], dtype=np.uint8)


@pytest.fixture
def svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both files, whose checksums pass for the published ones."""
    folder = tmp_path / "svhn"
    folder.mkdir()
    for split, chosen in (("train", slice(None)), ("test", slice(8, 10))):
        url, name, _ = SVHN.split_list[split]
        savemat(folder / name, {"X": IMAGES[..., chosen], "y": LABELS[chosen]})
        md5 = hashlib.md5((folder / name).read_bytes()).hexdigest()
        monkeypatch.setitem(SVHN.split_list, split, [url, name, md5])
    return folder


def test_ten_stands_for_zero_and_images_for_themselves(svhn: Path) -> None:
    for data_dir in (svhn.parent, svhn):
        dataset = datasets["svhn"].build(data_dir, False)
        assert dataset.train_labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 1]
        assert dataset.test_labels.tolist() == [9, 0]
        assert torch.equal(dataset.train_images[7], torch.from_numpy(IMAGES[..., 7].transpose(2, 0, 1)))
        assert dataset.classes[9] == "9"
    assert np.array_equal(SVHN(svhn, "train").data, dataset.train_images.numpy()), "as torchvision reads them"


def test_files_that_are_not_the_published_ones_are_named(svhn: Path) -> None:
    (svhn / "test_32x32.mat").write_bytes((svhn / "test_32x32.mat").read_bytes() + b"!")
    with pytest.raises(
        InputError, match=r"test_32x32\.mat: damaged: its checksum is not the published one; remove .*svhn"
    ):
        datasets["svhn"].build(svhn.parent, True)
    (svhn / "test_32x32.mat").unlink()
    with pytest.raises(InputError, match=r"test_32x32\.mat: is missing"):
        datasets["svhn"].build(svhn.parent, True)


def test_absent_data_says_what_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'svhn': no train_32x32\.mat and test_32x32\.mat in .*or allow the download"):
        datasets["svhn"].build(tmp_path, False)
