"""Fashion-MNIST is found where it usually lies, and recognized by its content."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sgabench.datasets import fashion
from sgabench.datasets.fashion import IdxFile, read_idx
from sgabench.errors import InputError
from sgabench.plugins import datasets


def write_idx(folder: Path, name: str, values: np.ndarray) -> IdxFile:
    """Write a file and describe it as if it had been published so."""
    magic = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    content = magic + values.astype(np.uint8).tobytes()
    (folder / name).write_bytes(gzip.compress(content))
    return IdxFile(name, values.shape, hashlib.sha256(content).hexdigest())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small set of four files in place of the published ones, and no Debian package."""
    folder = tmp_path / "files"
    folder.mkdir()
    random = np.random.RandomState(0)
    for attribute, values in (
        ("TRAIN_IMAGES", random.randint(0, 256, (20, 28, 28))),
        ("TRAIN_LABELS", np.arange(20) % 10),
        ("TEST_IMAGES", random.randint(0, 256, (10, 28, 28))),
        ("TEST_LABELS", np.arange(10)),
    ):
        published: IdxFile = getattr(fashion, attribute)
        monkeypatch.setattr(fashion, attribute, write_idx(folder, published.name, values))
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "not installed")
    return folder


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw", "fashion-mnist"])
def test_is_found_in_the_usual_places(files: Path, tmp_path: Path, place: str) -> None:
    shutil.copytree(files, tmp_path / "data" / place, dirs_exist_ok=True)
    dataset = datasets["fashion_mnist"].build(tmp_path / "data", False)
    assert dataset.train_images.shape == (20, 1, 28, 28)
    assert dataset.train_labels.tolist() == [*range(10), *range(10)]
    assert dataset.test_images.shape == (10, 1, 28, 28)
    with gzip.open(files / "t10k-images-idx3-ubyte.gz") as stream:
        assert dataset.test_images[0].flatten().tolist() == list(stream.read()[16 : 16 + 784])


@pytest.mark.skipif(not fashion.DEBIAN_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_published_files_of_debian_are_accepted(tmp_path: Path) -> None:
    dataset = datasets["fashion_mnist"].build(tmp_path, False)
    assert dataset.train_images.shape == (60_000, 1, 28, 28)
    assert dataset.test_labels.bincount().tolist() == [1000] * 10
    assert dataset.train_labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]


def test_other_content_under_the_same_name_is_refused(files: Path) -> None:
    name = fashion.TEST_LABELS.name
    write_idx(files, name, np.zeros(10))
    with pytest.raises(InputError, match=f"{name}: damaged, or not Fashion-MNIST"):
        datasets["fashion_mnist"].build(files, False)


@pytest.mark.parametrize(("count", "found"), [(8, "16"), (11, "more")])
def test_other_size_is_refused(files: Path, count: int, found: str) -> None:
    write_idx(files, fashion.TEST_LABELS.name, np.zeros(count))
    with pytest.raises(InputError, match=f"expected 18 bytes decompressed, found {found}"):
        read_idx(files, fashion.TEST_LABELS)


@pytest.mark.parametrize(
    "content", [b"", b"not gzip", gzip.compress(bytes(18))[:-9]], ids=["empty", "text", "truncated"]
)
def test_damaged_compression_names_the_file(files: Path, content: bytes) -> None:
    path = files / fashion.TEST_LABELS.name
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{path}: ")) as caught:
        datasets["fashion_mnist"].build(files, False)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(files: Path) -> None:
    (files / fashion.TRAIN_IMAGES.name).unlink()
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz: cannot be read \(No such file"):
        datasets["fashion_mnist"].build(files, True)


def test_absent_data_says_what_where_and_how(files: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"fashion_mnist.* in {tmp_path}; .*dataset-fashion-mnist"):
        datasets["fashion_mnist"].build(tmp_path, False)


def test_reading_is_bounded(files: Path) -> None:
    """A small file that decompresses to 100 MB is not decompressed to the end."""
    (files / fashion.TEST_LABELS.name).write_bytes(gzip.compress(bytes(100_000_000), compresslevel=1))
    with pytest.raises(InputError, match="found more"):
        read_idx(files, fashion.TEST_LABELS)
    assert torch.equal(read_idx(files, fashion.TRAIN_LABELS), torch.arange(20, dtype=torch.uint8) % 10)
