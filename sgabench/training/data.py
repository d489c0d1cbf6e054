"""A data set on the training device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgabench.datasets import augmentation
from sgabench.datasets.base import SplitDataset, channel_statistics
from sgabench.plugins import ImageSpec
from sgabench.system.seeds import derive_seed

# Enough images for BatchNorm statistics, few enough to cost a small part of an evaluation.
CALIBRATION_IMAGES = 5000


@dataclass(frozen=True)
class Images:
    """One split on the training device.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """A data set on the training device, with what normalizes it.

    Attributes:
        train, validation, test: the splits; validation may be empty.
        mean, std: float64 (C,), of the training split, for pixels in [0, 1].
    """

    spec: ImageSpec
    train: Images
    validation: Images
    test: Images
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, splits: SplitDataset, device: str) -> Data:
        """Move a data set's splits to a device and compute the constants of the training split."""
        mean, std = channel_statistics(splits.train_images)

        def on_device(images: Tensor, labels: Tensor) -> Images:
            return Images(images.to(device), labels.to(device))

        return cls(
            splits.spec,
            on_device(splits.train_images, splits.train_labels),
            on_device(splits.validation_images, splits.validation_labels),
            on_device(splits.test_images, splits.test_labels),
            mean.to(device),
            std.to(device),
        )

    def to(self, device: str) -> Data:
        """The same on a device; no copy if it is there."""

        def moved(split: Images) -> Images:
            return Images(split.images.to(device), split.labels.to(device))

        train, validation, test = map(moved, (self.train, self.validation, self.test))
        return Data(self.spec, train, validation, test, self.mean.to(device), self.std.to(device))

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) to what the network sees, channels last in memory."""
        return augmentation.normalize(images, self.mean, self.std).contiguous(memory_format=torch.channels_last)


def packed(data: Data) -> dict[str, Any]:
    """A data set on the CPU as arrays, which processes can share without copying them."""
    splits = {name: getattr(data, name) for name in ("train", "validation", "test")}
    arrays = {name: (split.images.numpy(), split.labels.numpy()) for name, split in splits.items()}
    return {"spec": data.spec, **arrays, "mean": data.mean.numpy(), "std": data.std.numpy()}


def unpacked(arrays: Mapping[str, Any]) -> Data:
    """What `packed` was given; it may be read, and not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable", category=UserWarning)  # nothing writes to it
        splits = (Images(*map(torch.from_numpy, arrays[name])) for name in ("train", "validation", "test"))
        train, validation, test = splits
        return Data(
            arrays["spec"], train, validation, test, torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["std"])
        )


def batches(data: Data, split: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalized images and labels of a split, in its order."""
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        yield data.normalize(split.images[part]), split.labels[part]


def calibration(data: Data, seed: int) -> Images:
    """Some training images in random order, a function of the seed; a folder's own order is class by class."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "calibration"))
    chosen = torch.randperm(len(data.train), generator=generator)[:CALIBRATION_IMAGES].to(data.train.images.device)
    return Images(data.train.images[chosen], data.train.labels[chosen])
