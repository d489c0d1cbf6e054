"""The digits are always there and always split the same way."""

from __future__ import annotations

from pathlib import Path

import torch

from sgabench.datasets.base import Dataset
from sgabench.plugins import datasets


def load() -> Dataset:
    dataset = datasets["digits"].build(Path("nowhere"), False)
    assert isinstance(dataset, Dataset)
    return dataset


def test_is_what_its_description_says() -> None:
    dataset = load()
    assert dataset.train_images.shape == (1437, 1, 8, 8)
    assert dataset.test_images.shape == (360, 1, 8, 8)
    assert dataset.classes == tuple("0123456789")
    assert sorted(dataset.train_images.unique().tolist())[:3] == [0, 16, 32]
    assert dataset.train_images.max() == 255


def test_each_class_gives_a_fifth_to_the_test_split() -> None:
    dataset = load()
    test = dataset.test_labels.bincount()
    share = test / (test + dataset.train_labels.bincount())
    assert ((share - 360 / 1797).abs() < 0.005).all()


def test_no_image_is_lost_or_in_both_splits() -> None:
    from sklearn.datasets import load_digits

    dataset = load()
    ours = torch.cat([dataset.train_images, dataset.test_images]).flatten(1).float() * 16 / 255
    labels = torch.cat([dataset.train_labels, dataset.test_labels])
    published = load_digits()

    def rows(images: torch.Tensor, labels: torch.Tensor) -> list[tuple[float, ...]]:
        return sorted(tuple(row) for row in torch.cat([images.round(), labels[:, None]], dim=1).tolist())

    assert rows(ours, labels) == rows(torch.tensor(published.data).float(), torch.tensor(published.target))


def test_split_is_the_same_for_ever() -> None:
    """These labels are part of every stored result: they must not change with a version."""
    assert load().test_labels[:20].tolist() == [7, 5, 2, 7, 2, 6, 9, 1, 5, 9, 0, 0, 3, 7, 4, 8, 3, 3, 1, 5]
