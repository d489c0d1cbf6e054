"""A folder that does not fit into memory: decoded once into a file, and the same images as any other."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sgabench.datasets import prepared
from sgabench.datasets.base import Dataset, SplitDataset, channel_statistics, split
from sgabench.datasets.decoding import memory_limit
from sgabench.datasets.streamed import Pixels, Streamed
from sgabench.errors import InputError
from sgabench.plugins import datasets

SPLIT = {"test": 0.25, "seed": 0}


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Two classes of twelve images of different sizes, none like another."""
    random = np.random.default_rng(0)
    for label in ("rose", "tulip"):
        (tmp_path / "flowers" / label).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 256, (6 + number, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "flowers" / label / f"{number}.png")
    return tmp_path / "flowers"


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGABENCH_DATA_MEMORY", "0")


def load(flowers: Path, **options: object) -> Dataset:
    given = {"path": flowers.name, "image_size": 8, "split": SPLIT, **options}
    dataset = datasets["folder"].build(flowers.parent, False, **datasets["folder"].resolve(given))
    assert isinstance(dataset, Dataset)
    return dataset


def read(images: Pixels) -> torch.Tensor:
    return images[torch.arange(len(images))]


def is_streamed(dataset: Dataset | SplitDataset) -> bool:
    return isinstance(dataset.train_images, Streamed) and isinstance(dataset.test_images, Streamed)


def kept(flowers: Path) -> Path:
    (folder,) = (path for path in (flowers.parent / ".prepared").iterdir() if path.is_dir())
    return folder


@pytest.mark.parametrize("sizes", [(None, 0, None), (9, 5, 3)])
@pytest.mark.parametrize("drawn", [True, False])
def test_streamed_images_are_those_in_memory(
    flowers: Path, monkeypatch: pytest.MonkeyPatch, drawn: bool, sizes: tuple[int | None, int, int | None]
) -> None:
    if not drawn:
        (flowers / "train").mkdir()
        for label in ("rose", "tulip"):
            (flowers / label).rename(flowers / "train" / label)
            (flowers / "test" / label).mkdir(parents=True)
            for number in (3, 1, 8):
                moved = Path(label) / f"{number}.png"
                (flowers / "train" / moved).rename(flowers / "test" / moved)
    options = {} if drawn else {"split": None}
    expected = split(load(flowers, **options), *sizes)
    assert not is_streamed(expected)
    monkeypatch.setenv("SGABENCH_DATA_MEMORY", "0")
    found = split(load(flowers, **options), *sizes)
    assert is_streamed(found)
    assert found.spec == expected.spec
    for name in ("train", "validation", "test"):
        assert torch.equal(read(getattr(found, f"{name}_images")), getattr(expected, f"{name}_images"))
        assert torch.equal(getattr(found, f"{name}_labels"), getattr(expected, f"{name}_labels"))
    for one, other in zip(*map(channel_statistics, (found.train_images, expected.train_images)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("streaming")
def test_any_rows_in_any_order_are_read(flowers: Path) -> None:
    images = load(flowers).train_images
    everything = read(images)
    for which in (torch.tensor([4, 5, 6, 2, 2, 17, 0]), torch.tensor([], dtype=torch.int64), slice(3, 9), slice(0)):
        assert torch.equal(images[which], everything[which])
    assert isinstance(images, Streamed)
    assert torch.equal(read(images.part(torch.tensor([7, 3])).part(slice(1, 2))), everything[3:4])


@pytest.mark.usefixtures("streaming")
def test_images_are_decoded_once(flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(load(flowers).train_images)
    monkeypatch.setattr(prepared, "decoded", None)  # whoever decodes fails
    assert torch.equal(read(load(flowers).train_images), before)
    assert torch.equal(read(load(flowers, split={"test": 0.5}).train_images)[0], before[0])
    monkeypatch.setenv("SGABENCH_DATA_MEMORY", "1GB")
    again = load(flowers)
    assert isinstance(again.train_images, torch.Tensor)
    assert torch.equal(again.train_images, before)


@pytest.mark.usefixtures("streaming")
def test_other_options_and_other_files_are_decoded_anew(flowers: Path) -> None:
    first = read(load(flowers).train_images)
    assert read(load(flowers, channels=1).train_images).shape[1] == 1
    assert read(load(flowers, image_size=4).train_images).shape[2] == 4
    assert len(list((flowers.parent / ".prepared").glob("folder-*/images.npy"))) == 3
    Image.new("RGB", (8, 8), "red").save(flowers / "rose" / "0.png")
    changed = read(load(flowers).train_images)
    assert not torch.equal(changed, first)
    assert len(list((flowers.parent / ".prepared").glob("folder-*/images.npy"))) == 3, "the old one is replaced"


@pytest.mark.usefixtures("streaming")
@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: os.truncate(folder / "images.npy", 1000),
        lambda folder: (folder / "images.npy").write_bytes(b""),
        lambda folder: (folder / "images.npy").unlink(),
        lambda folder: (folder / "about.json").write_text("{"),
        lambda folder: (folder / "about.json").write_text("[]"),
        lambda folder: (folder / "images.npy").write_bytes((folder / "images.npy").read_bytes()[:-1] + b"!"),
        lambda folder: np.save(folder / "images.npy", np.zeros((24, 3, 8, 9), dtype=np.uint8)),
    ],
    ids=["short", "empty", "missing", "no json", "other json", "a byte", "other shape"],
)
def test_what_is_damaged_is_made_anew(flowers: Path, harm: object) -> None:
    before = read(load(flowers).train_images)
    assert callable(harm)
    harm(kept(flowers))
    assert torch.equal(read(load(flowers).train_images), before)
    assert json.loads((kept(flowers) / "about.json").read_text())["image_size"] == 8


@pytest.mark.usefixtures("streaming")
def test_a_file_that_is_cut_while_it_is_in_use_is_one_line(flowers: Path) -> None:
    images = load(flowers).train_images
    os.truncate(kept(flowers) / "images.npy", 1000)
    with pytest.raises(InputError, match=r"images\.npy: ends too early; it was changed while in use"):
        read(images)


@pytest.mark.usefixtures("streaming")
def test_what_a_killed_process_left_is_no_hindrance(flowers: Path) -> None:
    before = read(load(flowers).train_images)
    folder = kept(flowers)
    folder.rename(folder.with_name(f"{folder.name}.part"))
    (folder.with_name(f"{folder.name}.part") / "images.npy").write_bytes(b"half")
    assert torch.equal(read(load(flowers).train_images), before)
    assert kept(flowers) == folder


@pytest.mark.usefixtures("streaming")
def test_an_image_that_cannot_be_read_leaves_nothing(flowers: Path) -> None:
    content = (flowers / "rose" / "3.png").read_bytes()
    (flowers / "rose" / "3.png").write_bytes(content[:-30])
    with pytest.raises(InputError, match=r"rose/3\.png: cannot be read as an image"):
        load(flowers)
    assert not [path for path in (flowers.parent / ".prepared").iterdir() if path.is_dir()]


@pytest.mark.usefixtures("streaming")
def test_another_process_that_decodes_the_same_is_waited_for(
    flowers: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The lock is taken at the first try; what then is there already is used as it is."""
    expected = read(load(flowers).train_images)
    folder = kept(flowers)
    aside = folder.rename(folder.with_name("aside"))
    locking = fcntl.flock

    def flock(file: object, how: int) -> None:
        if how & fcntl.LOCK_NB:
            raise BlockingIOError
        aside.rename(folder)  # the other process is through
        locking(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(prepared, "decoded", None)
    assert torch.equal(read(load(flowers).train_images), expected)
    assert "waiting for another process" in caplog.text


def test_decoded_images_go_to_the_given_folder(flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGABENCH_DATA_MEMORY", "1k")
    monkeypatch.setenv("SGABENCH_CACHE", str(tmp_path / "fast disk"))
    load(flowers)
    assert list((tmp_path / "fast disk").glob("folder-*/images.npy"))
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("SGABENCH_CACHE", str(tmp_path / "a file"))
    with pytest.raises(InputError, match=r"cannot keep 0 MB of decoded images in .*a file \(.*SGABENCH_CACHE$"):
        load(flowers)


@pytest.mark.usefixtures("streaming")
def test_a_disk_without_room_is_reported_before_anything_is_decoded(
    flowers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _: SimpleNamespace(free=7))
    with pytest.raises(InputError, match=r"decoded images take 0 MB, but only 0 MB are free in .*; name another"):
        load(flowers)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("500MB", 5 * 10**8), ("2.5 gb", 25 * 10**8), ("8G", 8 * 10**9), ("12", 12)]
)
def test_limits_are_sizes(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("SGABENCH_DATA_MEMORY", text)
    assert memory_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "5 XB", "1e9"])
def test_other_limits_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SGABENCH_DATA_MEMORY", text)
    with pytest.raises(
        InputError, match=r"^SGABENCH_DATA_MEMORY=.*: is not a size; valid are e\.g\. 500MB, 8GB and 0$"
    ):
        memory_limit()
