"""CIFAR is read from its official files, or refused with the name of the file that is wrong."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray

from sgabench.datasets.cifar import read_cifar10, read_cifar100
from sgabench.datasets.cifar_classes import CIFAR10_CLASSES, COARSE_OF_FINE, COARSE_TO_FINE, FINE_CLASSES
from sgabench.errors import InputError
from sgabench.plugins import datasets

IMAGE_BYTES = 3072
SOME_IMAGES = np.random.RandomState(0).randint(0, 256, (6, IMAGE_BYTES)).astype(np.uint8)


def write_records(path: Path, *columns: list[int]) -> Path:
    labels = np.array(columns, dtype=np.uint8).T
    np.concatenate([labels, SOME_IMAGES[: len(labels)]], axis=1).tofile(path)
    return path


def test_record_of_cifar10_is_a_label_and_three_planes(tmp_path: Path) -> None:
    images, labels = read_cifar10(write_records(tmp_path / "batch.bin", [3, 9, 0]), records=3)
    assert labels.tolist() == [3, 9, 0]
    assert images.shape == (3, 3, 32, 32)
    red, green = SOME_IMAGES[1, :1024], SOME_IMAGES[1, 1024:2048]
    assert images[1, 0, 0, :5].tolist() == red[:5].tolist()
    assert images[1, 0, 1, 0] == red[32]
    assert images[1, 1, 31, 31] == green[-1]


def test_record_of_cifar100_has_both_labels(tmp_path: Path) -> None:
    fine = [0, 99, 51]
    path = write_records(tmp_path / "train.bin", [COARSE_OF_FINE[label] for label in fine], fine)
    images, labels = read_cifar100(path, records=3)
    assert labels.tolist() == fine
    assert images[2, 0, 0, :5].tolist() == SOME_IMAGES[2, :5].tolist()


@pytest.mark.parametrize("change", [-1, 1, -3073, 3073])
def test_truncated_or_longer_file_is_damaged(tmp_path: Path, change: int) -> None:
    path = write_records(tmp_path / "batch.bin", [1, 2, 3, 4])
    content = path.read_bytes() + bytes(3073)
    path.write_bytes(content[: 4 * 3073 + change])
    expected = f"batch.bin: damaged: expected {4 * 3073} bytes .4 records., found {4 * 3073 + change}"
    with pytest.raises(InputError, match=expected):
        read_cifar10(path, records=4)


def test_official_files_have_ten_thousand_records(tmp_path: Path) -> None:
    path = write_records(tmp_path / "batch.bin", [1, 2])
    with pytest.raises(InputError, match=r"expected 30730000 bytes \(10000 records\), found 6146"):
        read_cifar10(path)


def test_impossible_labels_are_damage(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="record 1 has the label 10; valid: 0 to 9"):
        read_cifar10(write_records(tmp_path / "ten.bin", [9, 10]), records=2)
    with pytest.raises(InputError, match="record 0 has the label 100; valid: 0 to 99"):
        read_cifar100(write_records(tmp_path / "hundred.bin", [0], [100]), records=1)
    with pytest.raises(InputError, match="record 0 has the coarse label 3, but its fine label 0 belongs to 4"):
        read_cifar100(write_records(tmp_path / "hundred.bin", [3], [0]), records=1)


def test_missing_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "test_batch.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"data_batch_1\.bin: cannot be read"):
        datasets["cifar10"].build(tmp_path, False)


def test_coarse_labels_are_the_official_ones() -> None:
    assert len(FINE_CLASSES) == len(set(FINE_CLASSES)) == 100
    assert COARSE_OF_FINE[:12] == (4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14)  # as in the published files
    assert COARSE_OF_FINE[-12:] == (5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13)[1:]
    assert [COARSE_OF_FINE.count(label) for label in range(20)] == [5] * 20


@pytest.fixture
def binary_cifar10(tmp_path: Path) -> Iterator[Path]:
    """All six files in their true size; sparse, so that they take no space: black airplanes but for the first."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"], start=1):
        path = write_records(folder / f"{name}.bin", [number])
        with path.open("r+b") as file:
            file.truncate(30_730_000)
    yield folder
    for path in folder.iterdir():
        path.unlink()


def test_binary_files_of_cifar10_in_their_order(binary_cifar10: Path) -> None:
    for data_dir in (binary_cifar10.parent, binary_cifar10):
        dataset = datasets["cifar10"].build(data_dir, False)
        assert dataset.train_images.shape == (50_000, 3, 32, 32)
        assert dataset.test_images.shape == (10_000, 3, 32, 32)
        assert dataset.train_labels[::10_000].tolist() == [1, 2, 3, 4, 5]
        assert dataset.test_labels[:2].tolist() == [6, 0]
        assert dataset.classes == CIFAR10_CLASSES
        assert torch.equal(dataset.test_images[0].flatten(), torch.from_numpy(SOME_IMAGES[0]))


@pytest.fixture
def binary_cifar100(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name, records in (("train", 50_000), ("test", 10_000)):
        fine = np.arange(records) % 100
        table = np.zeros((records, 2 + IMAGE_BYTES), dtype=np.uint8)
        table[:, 0], table[:, 1] = np.array(COARSE_OF_FINE)[fine], fine
        table.tofile(folder / f"{name}.bin")
    yield folder
    for path in folder.iterdir():
        path.unlink()


def test_binary_files_of_cifar100_with_either_label(binary_cifar100: Path) -> None:
    fine = datasets["cifar100"].build(binary_cifar100.parent, False)
    coarse = datasets["cifar100"].build(binary_cifar100, False, labels="coarse")
    assert fine.spec.classes == 100
    assert coarse.spec.classes == 20
    assert fine.train_labels[:3].tolist() == [0, 1, 2]
    for group, name in zip(coarse.test_labels[:100].tolist(), fine.classes, strict=True):
        assert name in COARSE_TO_FINE[coarse.classes[group]]
    assert len(coarse.train_labels) == 50_000


def pickled(path: Path, content: object) -> tuple[str, str]:
    path.write_bytes(pickle.dumps(content))
    return path.name, hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def python_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Python layout with an image in each file, whose checksums pass for the published ones."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def batch(number: int) -> dict[str, NDArray[np.uint8] | list[int]]:
        return {"data": SOME_IMAGES[number : number + 1], "labels": [number]}

    reader = torchvision.datasets.CIFAR10
    train = [pickled(folder / f"data_batch_{n}", batch(n)) for n in range(1, 6)]
    monkeypatch.setattr(reader, "train_list", train)
    monkeypatch.setattr(reader, "test_list", [pickled(folder / "test_batch", batch(0))])
    name, checksum = pickled(folder / "batches.meta", {"label_names": list(CIFAR10_CLASSES)})
    monkeypatch.setattr(reader, "meta", {"filename": name, "key": "label_names", "md5": checksum})
    return folder


def test_python_files_hold_the_same_planes(python_cifar10: Path) -> None:
    for data_dir in (python_cifar10.parent, python_cifar10):
        dataset = datasets["cifar10"].build(data_dir, False)
        assert dataset.train_labels.tolist() == [1, 2, 3, 4, 5]
        assert dataset.test_labels.tolist() == [0]
        assert torch.equal(dataset.train_images.flatten(1), torch.from_numpy(SOME_IMAGES[1:]))


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_changed_pickle_is_never_loaded(python_cifar10: Path, tmp_path: Path, file: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)

    (python_cifar10 / file).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=f"{file}: damaged: its checksum is not the published one"):
        datasets["cifar10"].build(tmp_path, False)
    assert not (tmp_path / "sprung").exists()


def test_missing_pickle_is_named(python_cifar10: Path) -> None:
    (python_cifar10 / "data_batch_2").unlink()
    with pytest.raises(InputError, match=r"data_batch_2: is missing; remove .*cifar-10-batches-py"):
        datasets["cifar10"].build(python_cifar10.parent, True)


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        ("cifar10", "cifar-10-batches-bin or cifar-10-batches-py"),
        ("cifar100", "cifar-100-binary or cifar-100-python"),
    ],
)
def test_absent_data_says_what_where_and_how(tmp_path: Path, name: str, folders: str) -> None:
    data_dir = tmp_path / "data"
    with pytest.raises(InputError, match=f"{name}.*{folders} in {data_dir}; .*allow the download") as caught:
        datasets[name].build(data_dir, False)
    assert "\n" not in str(caught.value)
    assert not data_dir.exists()
