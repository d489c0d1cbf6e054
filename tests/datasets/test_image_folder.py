"""The user's own images: read, cropped and resized; everything odd is named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgabench.datasets.base import Dataset
from sgabench.datasets.folders import folder_fingerprint
from sgabench.errors import InputError
from sgabench.plugins import datasets

RED, BLUE = (200, 0, 0), (0, 0, 200)


def save(path: Path, colour: tuple[int, int, int] = RED, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for label in ("dog", "cat"):
            for name in ("b.png", "a.png"):
                save(tmp_path / "animals" / split / label / name, RED if label == "dog" else BLUE)
    return tmp_path / "animals"


def load(data_dir: Path, **options: object) -> Dataset:
    dataset = datasets["folder"].build(data_dir, False, **{"path": "animals", "image_size": 8, **options})
    assert isinstance(dataset, Dataset)
    return dataset


def test_class_folders_become_labels_in_alphabetical_order(animals: Path) -> None:
    dataset = load(animals.parent)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train_labels.tolist() == [0, 0, 1, 1]
    assert dataset.train_images.shape == (4, 3, 8, 8)
    assert dataset.test_images[:, :, 4, 4].tolist() == [list(BLUE)] * 2 + [list(RED)] * 2


def test_path_may_be_absolute(animals: Path, tmp_path: Path) -> None:
    assert len(load(tmp_path / "elsewhere", path=str(animals)).train_labels) == 4


def test_files_are_in_order_of_their_names(animals: Path) -> None:
    save(animals / "train" / "cat" / "a.png", (1, 2, 3))
    assert load(animals.parent).train_images[0, :, 0, 0].tolist() == [1, 2, 3]


def test_grey_images(animals: Path) -> None:
    dataset = load(animals.parent, channels=1)
    assert dataset.spec.channels == 1
    grey = Image.new("RGB", (1, 1), RED).convert("L").getpixel((0, 0))
    assert dataset.train_images[3].unique().tolist() == [grey]


def test_oblong_images_lose_their_ends(animals: Path) -> None:
    """A wide image, red in the middle third and blue at both ends, is red once its centre is cut out."""
    pixels = np.empty((10, 30, 3), dtype=np.uint8)
    pixels[:] = BLUE
    pixels[:, 10:20] = RED
    Image.fromarray(pixels).save(animals / "train" / "cat" / "a.png")
    assert (load(animals.parent, image_size=5).train_images[0] == np.array(RED)[:, None, None]).all()


def test_hidden_files_and_folders_are_skipped(animals: Path) -> None:
    (animals / ".cache").mkdir()
    (animals / "train" / ".thumbnails").mkdir()
    (animals / "train" / "cat" / ".DS_Store").write_bytes(b"x")
    before = folder_fingerprint(animals.parent, {"path": "animals"})
    assert len(load(animals.parent).train_labels) == 4
    (animals / "train" / "cat" / ".DS_Store").write_bytes(b"xyz")
    assert folder_fingerprint(animals.parent, {"path": "animals"}) == before


def test_unreadable_image_is_named(animals: Path) -> None:
    path = animals / "test" / "dog" / "a.png"
    for content in (b"", b"no image", path.read_bytes()[:-30]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(f"{path}: cannot be read as an image")) as caught:
            load(animals.parent)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limit", [50, 20])
def test_decompression_bombs_are_not_decoded(animals: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Pillow warns above its limit and refuses above twice of it; both are an answer here."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InputError, match=rf"cat/a.png: larger than {limit} pixels"):
        load(animals.parent)


@pytest.mark.parametrize(
    ("move", "problem"),
    [
        (("animals", "plants"), "path: no folder .*animals"),
        (("animals/test", "animals/validation"), r"no folder .*test; expected test/CLASS/IMAGES$"),
        (("animals/test/dog", "animals/test/fish"), "class 'dog' is in train but not in test"),
        (("animals/train/dog", "animals/dog"), "class 'dog' is in test but not in train"),
        (("animals/train/dog/a.png", "animals/train/a.png"), "a.png is not a folder"),
        (("animals/train/dog", "animals/train/cat/dog"), "dog is not a file"),
    ],
)
def test_other_layouts_are_refused(animals: Path, tmp_path: Path, move: tuple[str, str], problem: str) -> None:
    (tmp_path / move[0]).rename(tmp_path / move[1])
    for use in (lambda: load(tmp_path), lambda: folder_fingerprint(tmp_path, {"path": "animals"})):
        with pytest.raises(InputError, match=problem):
            use()


def test_class_without_images_is_refused(animals: Path) -> None:
    for path in (animals / "test" / "cat").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"class 'cat' has no images in .*test/cat"):
        load(animals.parent)


def test_split_without_classes_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "animals" / split).mkdir(parents=True)
    with pytest.raises(InputError, match="no class folders"):
        load(tmp_path)


def test_fingerprint_depends_on_contents_and_not_on_places(animals: Path, tmp_path: Path) -> None:
    fingerprint = datasets["folder"].tags["fingerprint"]
    seen = {fingerprint(tmp_path, {"path": "animals", "image_size": 32})}
    path = animals / "test" / "dog" / "a.png"
    path.write_bytes(path.read_bytes() + b" ")
    seen.add(fingerprint(tmp_path, {"path": "animals"}))
    path.rename(path.with_name("c.png"))
    seen.add(fingerprint(tmp_path, {"path": "animals"}))
    save(animals / "train" / "dog" / "c.png")
    last = fingerprint(tmp_path, {"path": "animals"})
    assert len(seen | {last}) == 4
    animals.rename(tmp_path / "beasts")
    assert fingerprint(tmp_path / "anywhere", {"path": str(tmp_path / "beasts")}) == last


@pytest.mark.parametrize("options", [{}, {"path": ""}, {"path": "x", "channels": 2}, {"path": "x", "image_size": 0}])
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"^(path|channels|image_size): "):
        datasets["folder"].resolve(options)
