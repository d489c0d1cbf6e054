"""Images that Hugging Face's library saved to disk; most of it needs that library, the extra huggingface."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sgabench.cli import main
from sgabench.datasets.base import Dataset
from sgabench.datasets.huggingface import huggingface_fingerprint
from sgabench.datasets.streamed import Streamed
from sgabench.errors import InputError
from sgabench.plugins import datasets

COLOURS = [(200, 0, 0), (0, 0, 200), (220, 0, 0), (0, 0, 220), (180, 0, 0), (0, 0, 180)]
OPTIONS: dict[str, Any] = {"path": "pets", "image_size": 8}


def encoded(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> dict[str, Any]:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def save(folder: Path, splits: tuple[str, ...] = ("train", "test"), **columns: Any) -> Path:
    """Six images, dogs red and cats blue, in each split; without splits if there are none."""
    pytest.importorskip("datasets.arrow_dataset")  # without the library, this folder of tests would be "datasets"
    import datasets as hub

    table: dict[str, Any] = {
        "image": [encoded(colour, (8, 8 + place)) for place, colour in enumerate(COLOURS)],
        "label": [1, 0] * 3,
        "place": list(range(6)),
        "kind": ["dog", "cat"] * 3,
        **columns,
    }
    kinds = {"image": hub.Image(), "label": hub.ClassLabel(names=["cat", "dog"])}
    kinds |= {"place": hub.Value("int64"), "kind": hub.Value("string")}
    made = hub.Dataset.from_dict(table, features=hub.Features({name: kinds.get(name, hub.Image()) for name in table}))
    (hub.DatasetDict(dict.fromkeys(splits, made)) if splits else made).save_to_disk(str(folder))
    return folder


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return save(tmp_path / "pets")


def load(data_dir: Path, **options: Any) -> Dataset:
    dataset = datasets["huggingface"].build(data_dir, False, **{**OPTIONS, **options})
    assert isinstance(dataset, Dataset)
    return dataset


def key(data_dir: Path, **options: Any) -> str:
    return huggingface_fingerprint(data_dir, datasets["huggingface"].resolve({**OPTIONS, **options}))


def test_images_have_one_size_and_labels_their_names(pets: Path) -> None:
    dataset = load(pets.parent)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train_images.shape == dataset.test_images.shape == (6, 3, 8, 8)
    assert dataset.train_labels.tolist() == [1, 0] * 3
    assert dataset.train_images[:, :, 4, 4].tolist() == [list(colour) for colour in COLOURS]


def test_streamed_images_are_the_same(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = load(pets.parent).train_images
    monkeypatch.setenv("SGABENCH_DATA_MEMORY", "0")
    streamed = load(pets.parent).train_images
    assert isinstance(streamed, Streamed)
    assert torch.equal(streamed[torch.arange(6)], resident[torch.arange(6)])
    other = load(pets.parent, train="test", test="train")
    assert torch.equal(other.train_images[torch.arange(6)], resident[torch.arange(6)])


def test_labels_may_be_texts_or_numbers(pets: Path) -> None:
    assert load(pets.parent, label="kind").classes == ("cat", "dog")
    assert load(pets.parent, label="place").classes == ("0", "1", "2", "3", "4", "5")


def test_a_split_is_drawn(tmp_path: Path) -> None:
    save(tmp_path / "pets", splits=())
    dataset = load(tmp_path, split={"test": 0.34})
    assert (len(dataset.train_labels), sorted(dataset.test_labels.tolist())) == (4, [0, 1])
    with pytest.raises(InputError, match=r"pets has no splits; set split = \{test = 0.2\} to have one drawn$"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"data set 'huggingface': split: test = 0\.01 gives class 'cat' 0 test and 3"):
        load(tmp_path, split={"test": 0.01})


def test_the_key_has_the_content_and_not_the_place(pets: Path, tmp_path: Path) -> None:
    before = key(tmp_path)
    shutil.move(pets, tmp_path / "moved")
    assert key(tmp_path, path="moved") == before
    save(pets, label=[0, 1] * 3)
    assert key(tmp_path) != before


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"image": "picture"},
            "image: no column 'picture'; it has image (Image), label (ClassLabel), place (Value), k",
        ),
        ({"image": "label"}, "image: column 'label' is ClassLabel; it must be Image"),
        ({"label": "image"}, "label: column 'image' is Image; it must be ClassLabel, integers or strings"),
        ({"test": "validation"}, "pets has no split 'validation'; it has 'train', 'test'; set test to one of them, or"),
        ({"path": "nothing"}, "data set 'huggingface': path: no folder "),
        ({"path": "."}, "is not what save_to_disk writes"),
    ],
)
def test_what_is_wrong_is_a_line(pets: Path, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as raised:
        load(pets.parent, **options)
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


def test_columns_that_are_not_clear_are_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "pets", mask=[encoded((1, 1, 1))] * 6)
    with pytest.raises(
        InputError, match=r"several columns could be images \(Image\); set image to the name of one: it"
    ):
        load(tmp_path)
    assert load(tmp_path, image="image").train_images.shape == (6, 3, 8, 8)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"label": [1, 0, 1, -1, 1, 0]}, "row 3 has no label (-1); use a split that has labels"),
        ({"image": [encoded(COLOURS[0])] * 5 + [None]}, "train: row 5, column 'image': holds no image"),
        ({"image": [encoded(COLOURS[0])] * 5 + [{"bytes": b"GIF8", "path": None}]}, "row 5, column 'image': cannot be"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, columns: dict[str, Any], problem: str) -> None:
    save(tmp_path / "pets", **columns)
    with pytest.raises(InputError) as raised:
        load(tmp_path)
    assert problem in str(raised.value)


def test_what_is_damaged_is_a_line(pets: Path) -> None:
    (pets / "train" / "data-00000-of-00001.arrow").write_bytes(b"no arrow")
    with pytest.raises(InputError, match="pets/train: cannot be read: "):
        load(pets.parent)


def test_without_the_extra_the_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pets"
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        InputError, match=r"data set 'huggingface' needs the extra: pip install 'sgabench\[huggingface\]'"
    ):
        load(tmp_path)


def test_the_command_knows_them(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str) -> str:
        with pytest.raises(SystemExit, match="0"):
            main(["data", *arguments, "--data-dir", str(pets.parent)])
        return capsys.readouterr().out

    assert "huggingface:pets" in told("list")
    checked = told("check", f"huggingface:{pets}")
    assert checked.startswith(f"pets ({pets}): 6 train + 6 test images, 2 classes, 6 each\n")
    assert "the same file in both splits: train: row 0, column 'image' = test: row 0, column 'image'" in checked
    assert "pets: 12 images of 3 x 32 x 32" in told("prepare", f"huggingface:{pets}")
