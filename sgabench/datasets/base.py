"""Data sets: images in memory or in a file, checked once, and their splits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sgabench.datasets.streamed import Pixels, part_of
from sgabench.errors import InputError
from sgabench.plugins import ImageSpec
from sgabench.system.seeds import derive_seed

_BLOCK_BYTES = 2**24  # of images, counted at a time


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels as published: a training and a test split.

    Attributes:
        name: for messages.
        classes: the name of each class, in the order of the labels.
        train_images: uint8 (N, C, H, W), on the CPU; `Streamed` if they do not fit into memory.
        train_labels: int64 (N,), each in [0, number of classes).
        test_images: uint8 (M, C, H, W), likewise.
        test_labels: int64 (M,).

    Raises:
        InputError: shapes, types or labels are not as stated above, or a split is empty.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Pixels
    train_labels: Tensor
    test_images: Pixels
    test_labels: Tensor

    def __post_init__(self) -> None:
        for part, images, labels in (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            problem = _problem(images, labels, len(self.classes))
            if problem:
                raise InputError(f"data set {self.name!r}, {part} split: {problem}")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise InputError(
                f"data set {self.name!r}: images of the training split are {_size(self.train_images)}, "
                f"those of the test split {_size(self.test_images)}"
            )

    @property
    def spec(self) -> ImageSpec:
        """What a model must accept and return."""
        return _spec(self.train_images, self.classes)


@dataclass(frozen=True, eq=False)
class SplitDataset:
    """A data set with a validation split taken from its training split.

    Attributes:
        name: as in `Dataset`, like the other fields of the same name.
        validation_images: uint8 (V, C, H, W), V may be 0.
        validation_labels: int64 (V,).
    """

    name: str
    classes: tuple[str, ...]
    train_images: Pixels
    train_labels: Tensor
    validation_images: Pixels
    validation_labels: Tensor
    test_images: Pixels
    test_labels: Tensor

    @property
    def spec(self) -> ImageSpec:
        """What a model must accept and return."""
        return _spec(self.train_images, self.classes)


def split(dataset: Dataset, train_size: int | None, validation_size: int, test_size: int | None = None) -> SplitDataset:
    """Take a validation part from the training split, then cut the training and the test split.

    All are drawn class by class, in proportion to the classes, with a fixed seed: every trial of every suite has the
    same parts. The images keep their order.

    Args:
        dataset: the published splits.
        train_size: images to train on; None: all that are not for validation.
        validation_size: images for validation, may be 0.
        test_size: images to test on; None: all.

    Raises:
        InputError: a size is out of range, or the two together exceed the training split.
    """
    labels = dataset.train_labels
    available = len(labels)
    where = f"data set {dataset.name!r}"
    if not 0 <= validation_size < available:
        raise InputError(
            f"{where}: validation_size is {validation_size}; it must be at least 0 and leave some of the "
            f"{available} training images"
        )
    if train_size is not None and not 1 <= train_size <= available - validation_size:
        raise InputError(
            f"{where}: train_size is {train_size}; valid: 1 to {available - validation_size} "
            f"({available} training images, {validation_size} of them for validation)"
        )
    if test_size is not None and not 1 <= test_size <= len(dataset.test_labels):
        raise InputError(f"{where}: test_size is {test_size}; valid: 1 to {len(dataset.test_labels)} test images")
    validation = stratified_choice(labels, validation_size, "validation part")
    in_training = torch.ones(available, dtype=torch.bool)
    in_training[validation] = False
    training = in_training.nonzero()[:, 0]
    if train_size is not None:
        training = training[stratified_choice(labels[training], train_size, "training part")]
    whole = len(training) == available  # indexing would only copy
    test: Tensor | slice = slice(None)
    if test_size is not None:
        test = stratified_choice(dataset.test_labels, test_size, "test part")
    return SplitDataset(
        name=dataset.name,
        classes=dataset.classes,
        train_images=dataset.train_images if whole else part_of(dataset.train_images, training),
        train_labels=labels if whole else labels[training],
        validation_images=part_of(dataset.train_images, validation),
        validation_labels=labels[validation],
        test_images=part_of(dataset.test_images, test),
        test_labels=dataset.test_labels[test],
    )


def stratified_choice(labels: Tensor, size: int, purpose: str) -> Tensor:
    """Choose examples in proportion to the classes, the same ones at every call.

    Each class gives its exact share rounded down; the classes with the largest remainders give one
    more each, the first ones among equals.

    Args:
        labels: int64 (N,).
        size: how many to choose, in [0, N].
        purpose: a different purpose gives an unrelated choice.

    Returns:
        Indices, int64 (size,), increasing.
    """
    order = np.asarray(labels.numpy())
    counts = np.bincount(order)
    quota, remainder = np.divmod(counts * size, max(len(order), 1))
    missing = size - int(quota.sum())
    quota[np.argsort(-remainder, kind="stable")[:missing]] += 1
    # the legacy generator's stream is frozen, so the parts are the same in every version
    random = np.random.RandomState(derive_seed(0, purpose) % 2**32)
    shuffled = random.permutation(len(order))
    chosen = [shuffled[order[shuffled] == label][: quota[label]] for label in range(len(counts))]
    return torch.from_numpy(np.sort(np.concatenate([np.empty(0, dtype=np.int64), *chosen])))


def channel_statistics(images: Pixels) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over images and pixels.

    Computed exactly from the histogram of the 256 values. A constant channel has the standard
    deviation 1 instead of 0, so that it can be divided by.

    Args:
        images: uint8 (N, C, H, W) of the training split.

    Returns:
        Mean and standard deviation, both float64 (C,), for values scaled to [0, 1].
    """
    channels = images.shape[1]
    histogram = torch.zeros(channels, 256, dtype=torch.int64, device=images.device)
    block = max(1, _BLOCK_BYTES // math.prod(images.shape[1:]))
    for start in range(0, len(images), block):
        some = images[start : start + block]
        for channel in range(channels):
            histogram[channel] += torch.bincount(some[:, channel].reshape(-1), minlength=256)
    value = torch.arange(256, device=images.device)
    count = histogram.sum(dim=1)
    mean = (histogram * value).sum(dim=1).double() / count
    variance = (histogram * (value - mean[:, None]).square()).sum(dim=1) / count
    constant = (histogram > 0).sum(dim=1) == 1
    return mean / 255, torch.where(constant, 1.0, variance.sqrt() / 255)


def _problem(images: Pixels, labels: Tensor, classes: int) -> str:
    if images.dtype != torch.uint8 or images.ndim != 4:
        return f"images must be uint8 (N, C, H, W), found {images.dtype} {tuple(images.shape)}"
    if labels.dtype != torch.int64 or labels.ndim != 1:
        return f"labels must be int64 (N,), found {labels.dtype} {tuple(labels.shape)}"
    if len(images) != len(labels):
        return f"{len(images)} images but {len(labels)} labels"
    if images.numel() == 0:
        return f"no images (shape {tuple(images.shape)})"
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        return f"labels must be in 0 to {classes - 1} ({classes} classes), found {low if low < 0 else high}"
    return ""


def _size(images: Pixels) -> str:
    channels, height, width = images.shape[1:]
    return f"{channels} x {height} x {width}"


def _spec(images: Pixels, classes: tuple[str, ...]) -> ImageSpec:
    channels, height, width = images.shape[1:]
    return ImageSpec(channels=channels, height=height, width=width, classes=len(classes))
