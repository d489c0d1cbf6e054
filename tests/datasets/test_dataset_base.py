"""Data sets are checked when they are made, split the same way for everyone, and measured exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sgabench.datasets.base import Dataset, channel_statistics, split, stratified_choice
from sgabench.errors import InputError


def made_of(labels: list[int], classes: int = 4) -> Dataset:
    """A data set whose images tell which one they are."""
    images = torch.arange(len(labels))[:, None, None, None].expand(-1, 1, 2, 2).to(torch.uint8)
    return Dataset(
        name="made",
        classes=tuple("abcdefgh"[:classes]),
        train_images=images.contiguous(),
        train_labels=torch.tensor(labels),
        test_images=images[:1].clone(),
        test_labels=torch.zeros(1, dtype=torch.int64),
    )


def test_spec_states_what_a_model_must_accept() -> None:
    spec = made_of([0, 1, 2]).spec
    assert (spec.channels, spec.height, spec.width, spec.classes) == (1, 2, 2, 4)
    assert split(made_of([0, 1, 2]), None, 1).spec == spec


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"train_images": torch.zeros(2, 1, 4, 4)}, "training split: images must be uint8"),
        ({"test_images": torch.zeros(2, 4, 4, dtype=torch.uint8)}, "test split: images must be uint8 .N, C, H, W"),
        ({"train_labels": torch.zeros(2)}, "labels must be int64"),
        ({"train_labels": torch.zeros(3, dtype=torch.int64)}, "2 images but 3 labels"),
        ({"train_labels": torch.tensor([0, 2])}, "0 to 1 .2 classes., found 2"),
        ({"test_labels": torch.tensor([-1, 0])}, "test split: .*found -1"),
        ({"test_images": torch.zeros(2, 1, 4, 5, dtype=torch.uint8)}, "are 1 x 4 x 4, .* 1 x 4 x 5"),
        (
            {
                "train_images": torch.zeros(0, 1, 4, 4, dtype=torch.uint8),
                "train_labels": torch.zeros(0, dtype=torch.int64),
            },
            "training split: no images",
        ),
    ],
)
def test_wrong_data_is_refused(change: dict[str, Tensor], problem: str) -> None:
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    right: dict[str, Any] = {
        "train_images": images,
        "train_labels": labels,
        "test_images": images,
        "test_labels": labels,
    }
    with pytest.raises(InputError, match=f"data set 'made'.*{problem}"):
        Dataset(name="made", classes=("a", "b"), **(right | change))


@given(data=st.data())
def test_split_is_a_stratified_partition(data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=60))
    validation_size = data.draw(st.integers(0, len(labels) - 1))
    train_size = data.draw(st.none() | st.integers(1, len(labels) - validation_size))
    dataset = made_of(labels)
    parts = split(dataset, train_size, validation_size)

    left = len(labels) - validation_size
    training, validation = parts.train_images[:, 0, 0, 0].tolist(), parts.validation_images[:, 0, 0, 0].tolist()
    assert (len(training), len(validation)) == (left if train_size is None else train_size, validation_size)
    assert not set(training) & set(validation)
    assert training == sorted(set(training))  # nothing twice, and in the published order
    assert parts.train_labels.tolist() == [labels[index] for index in training]
    assert parts.validation_labels.tolist() == [labels[index] for index in validation]
    for label in range(4):
        share = validation_size * labels.count(label) / len(labels)
        assert abs(parts.validation_labels.tolist().count(label) - share) < 1
    assert torch.equal(parts.test_images, dataset.test_images)


def test_split_is_the_same_for_ever() -> None:
    """These numbers are part of every stored result: they must not change with a version."""
    parts = split(made_of([0] * 10 + [1] * 20), train_size=6, validation_size=6)
    assert parts.validation_images[:, 0, 0, 0].tolist() == [0, 2, 18, 21, 25, 27]
    assert parts.train_images[:, 0, 0, 0].tolist() == [5, 8, 14, 24, 28, 29]


def test_validation_part_does_not_depend_on_the_size_of_training() -> None:
    dataset = made_of([0, 1, 2, 3] * 10)
    large, small = split(dataset, None, 8), split(dataset, 12, 8)
    assert torch.equal(large.validation_images, small.validation_images)
    assert set(small.train_images[:, 0, 0, 0].tolist()) < set(large.train_images[:, 0, 0, 0].tolist())


def test_unsplit_data_is_not_copied() -> None:
    dataset = made_of([0, 1, 2, 3])
    parts = split(dataset, None, 0)
    assert parts.train_images is dataset.train_images
    assert parts.validation_images.shape == (0, 1, 2, 2)


@pytest.mark.parametrize(
    ("train_size", "validation_size", "problem"),
    [
        (None, 4, "validation_size is 4; .*4 training images"),
        (None, -1, "validation_size is -1"),
        (0, 0, "train_size is 0; valid: 1 to 4"),
        (4, 1, "train_size is 4; valid: 1 to 3 .4 training images, 1 of them for validation"),
    ],
)
def test_sizes_that_cannot_be_are_refused(train_size: int | None, validation_size: int, problem: str) -> None:
    with pytest.raises(InputError, match=f"'made': {problem}"):
        split(made_of([0, 1, 2, 3]), train_size, validation_size)


def test_a_part_of_the_test_split_is_drawn_class_by_class() -> None:
    data = made_of([0, 1, 2])
    large = Dataset(
        **{
            **vars(data),
            "test_images": data.train_images.repeat(4, 1, 1, 1),
            "test_labels": data.train_labels.repeat(4),
        }
    )
    part = split(large, None, 0, 6)
    assert sorted(part.test_labels.tolist()) == [0, 0, 1, 1, 2, 2]
    assert torch.equal(part.test_images[:, 0, 0, 0].long(), part.test_labels)
    assert torch.equal(split(large, 2, 1, 6).test_images, part.test_images)
    for size in (0, 13):
        with pytest.raises(InputError, match="valid: 1 to 12 test images"):
            split(large, None, 0, size)


def test_choices_for_different_purposes_are_unrelated() -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    assert not torch.equal(stratified_choice(labels, 50, "one"), stratified_choice(labels, 50, "other"))


@given(seed=st.integers(0, 2**32), examples=st.integers(1, 9), channels=st.integers(1, 4), side=st.integers(1, 5))
def test_statistics_are_those_of_the_definition(seed: int, examples: int, channels: int, side: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (examples, channels, side, side + 1), dtype=torch.uint8, generator=generator)
    mean, std = channel_statistics(images)
    values = images.double().div(255).transpose(0, 1).reshape(channels, -1)
    torch.testing.assert_close(mean, values.mean(dim=1), rtol=1e-12, atol=1e-14)
    varied = values.amin(dim=1) < values.amax(dim=1)
    torch.testing.assert_close(std[varied], values.std(dim=1, correction=0)[varied], rtol=1e-12, atol=1e-14)


def test_statistics_of_more_than_a_chunk() -> None:
    images = torch.zeros(5000, 1, 1, 1, dtype=torch.uint8)
    images[4500:] = 255
    mean, std = channel_statistics(images)
    assert mean.item() == pytest.approx(0.1, abs=1e-15)
    assert std.item() == pytest.approx(0.3, abs=1e-15)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_constant_channel_can_be_divided_by(value: int) -> None:
    mean, std = channel_statistics(torch.full((3, 2, 4, 4), value, dtype=torch.uint8))
    assert mean.tolist() == [value / 255] * 2
    assert std.tolist() == [1.0, 1.0]
