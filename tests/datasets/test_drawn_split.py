"""Folders of classes without splits: the test split is drawn by seed and share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sgabench.datasets.base import Dataset
from sgabench.errors import InputError
from sgabench.plugins import datasets
from sgabench.plugins.plugin import Plugin


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    """Two classes of 10 and 20 images, each image of a grey of its own."""
    for label, number in (("oak", 10), ("ash", 20)):
        (tmp_path / "leaves" / label).mkdir(parents=True)
        for grey in range(number):
            Image.new("L", (8, 8), grey).save(tmp_path / "leaves" / label / f"{grey:02}.png")
    return tmp_path / "leaves"


def folder() -> Plugin:
    return datasets["folder"]


def load(leaves: Path, **split: Any) -> Dataset:
    dataset = folder().build(leaves.parent, False, path="leaves", image_size=8, split=split or None)
    assert isinstance(dataset, Dataset)
    return dataset


def seen(dataset: Dataset) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Label and grey of every image of both splits."""
    train, test = (
        set(zip(labels.tolist(), images[:, 0, 0, 0].tolist(), strict=True))
        for images, labels in (
            (dataset.train_images, dataset.train_labels),
            (dataset.test_images, dataset.test_labels),
        )
    )
    return train, test


def test_each_class_gives_its_share_and_every_image_is_in_one_split(leaves: Path) -> None:
    dataset = load(leaves, test=0.2)
    assert dataset.classes == ("ash", "oak")
    assert np.bincount(dataset.test_labels.numpy()).tolist() == [4, 2]
    train, test = seen(dataset)
    assert (len(train), len(test)) == (24, 6)
    assert not train & test


def test_the_seed_draws_the_split(leaves: Path) -> None:
    drawn = [seen(load(leaves, test=0.2, seed=seed))[1] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_split_is_part_of_what_a_suite_says(leaves: Path) -> None:
    assert folder().resolve({"path": "x", "split": {"test": 0.2}})["split"] == {"test": 0.2, "seed": 0}
    assert folder().resolve({"path": "x"})["split"] is None


def test_a_class_that_would_be_in_one_split_only_is_refused(leaves: Path) -> None:
    with pytest.raises(InputError, match=r"test = 0.03 gives class 'oak' 0 test and 10 training images of its 10"):
        load(leaves, test=0.03)


@pytest.mark.parametrize("split", [{"test": 0}, {"test": 1.0}, {}, {"test": 0.2, "seed": -1}, {"test": 0.2, "by": 1}])
def test_a_share_is_between_0_and_1(split: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^split\."):
        folder().resolve({"path": "x", "split": split})


def test_the_message_about_a_folder_without_splits_says_how_to_draw_one(leaves: Path) -> None:
    with pytest.raises(InputError, match=r"expected train/CLASS/IMAGES; for CLASS/IMAGES alone, set split = \{test"):
        load(leaves)


def test_a_published_split_is_not_drawn_again(leaves: Path) -> None:
    for split in ("train", "test"):
        (leaves / split).mkdir()
    with pytest.raises(InputError, match="already has train and test; leave split out"):
        load(leaves, test=0.2)


def test_the_fingerprint_is_of_all_images(leaves: Path) -> None:
    fingerprint = folder().tags["fingerprint"]
    options = {"path": "leaves", "split": {"test": 0.2, "seed": 0}}
    before = fingerprint(leaves.parent, options)
    assert fingerprint(leaves.parent, {**options, "split": {"test": 0.5, "seed": 1}}) == before
    (leaves / "oak" / "00.png").rename(leaves / "ash" / "99.png")
    assert fingerprint(leaves.parent, options) != before
