"""A data set on the training device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sgabench.datasets import augmentation
from sgabench.datasets.base import SplitDataset, channel_statistics
from sgabench.datasets.streamed import Pixels, Streamed, part_of
from sgabench.errors import InputError
from sgabench.plugins import ImageSpec
from sgabench.system.seeds import derive_seed

# Images: enough for BatchNorm statistics, few enough to cost a small part of an evaluation.
CALIBRATION_IMAGES = 5000


@dataclass(frozen=True)
class Images:
    """A split on the training device, or streamed to it batch by batch.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), on the training device.
    """

    images: Pixels
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_streamed(self) -> bool:
        """Whether the images are not on the training device."""
        return isinstance(self.images, Streamed)

    def pixels(self, which: Tensor | slice) -> Tensor:
        """Images on the training device: uint8 (n, C, H, W)."""
        if not isinstance(self.images, Streamed):
            return self.images[which]
        read = self.images[which if isinstance(which, slice) else which.cpu()]
        device = self.labels.device
        return read.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else read

    def part(self, which: Tensor | slice) -> Images:
        """A part of the split."""
        rows = which if isinstance(which, slice) or not self.is_streamed else which.cpu()
        return Images(part_of(self.images, rows), self.labels[which])

    def to(self, device: str) -> Images:
        """The same split on a device; images that are streamed, or too many for its memory, stay where they are."""
        images = self.images
        if isinstance(images, Tensor):
            moves = device == "cuda" and images.device.type == "cpu"
            too_large = moves and images.nbytes > torch.cuda.mem_get_info()[0] // 2
            images = Streamed(images) if too_large else images.to(device)
        return Images(images, self.labels.to(device))


@dataclass(frozen=True)
class Data:
    """A data set on the training device, with the constants that normalize it.

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
        train = Images(splits.train_images, splits.train_labels)
        validation = Images(splits.validation_images, splits.validation_labels)
        test = Images(splits.test_images, splits.test_labels)
        return cls(splits.spec, train, validation, test, mean, std).to(device)

    @property
    def device(self) -> torch.device:
        """The training device."""
        return self.mean.device

    @property
    def is_streamed(self) -> bool:
        """Whether at least one split is read batch by batch."""
        return any(split.is_streamed for split in (self.train, self.validation, self.test))

    def to(self, device: str) -> Data:
        """The same data on a device; not copied if it is there already."""
        train, validation, test = (split.to(device) for split in (self.train, self.validation, self.test))
        return Data(self.spec, train, validation, test, self.mean.to(device), self.std.to(device))

    def cropped(self, size: int) -> Data:
        """The same images, of which networks see a central square.

        Raises:
            InputError: they are smaller.
        """
        if size > min(self.spec.height, self.spec.width):
            raise InputError(f"centre_crop: {size} is larger than the images: {self.spec.height} x {self.spec.width}")
        return replace(self, spec=replace(self.spec, height=size, width=size))

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) to a network's input: cropped to the middle if larger, normalized, channels last."""
        size = self.spec.height, self.spec.width
        if images.shape[2:] != size:
            images = augmentation.centre(images, size)
        return augmentation.normalize(images, self.mean, self.std).contiguous(memory_format=torch.channels_last)


def packed(data: Data) -> dict[str, Any]:
    """A data set in CPU memory as arrays, which processes can share without copies."""
    splits = {name: getattr(data, name) for name in ("train", "validation", "test")}
    arrays = {name: (split.images.numpy(), split.labels.numpy()) for name, split in splits.items()}
    return {"spec": data.spec, **arrays, "mean": data.mean.numpy(), "std": data.std.numpy()}


def unpacked(arrays: Mapping[str, Any]) -> Data:
    """The argument of `packed`, read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable", category=UserWarning)  # nothing writes to it
        splits = (Images(*map(torch.from_numpy, arrays[name])) for name in ("train", "validation", "test"))
        train, validation, test = splits
        return Data(
            arrays["spec"], train, validation, test, torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["std"])
        )


def batches(
    data: Data, split: Images, batch_size: int, change: Callable[[Tensor, int], Tensor] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalized images and labels of a split, in its order.

    Args:
        change: transforms a batch, uint8 (N, C, H, W), given the position of its first image.
    """
    for start in range(0, len(split), batch_size):
        rows = slice(start, start + batch_size)
        images = split.pixels(rows)
        yield data.normalize(images if change is None else change(images, start)), split.labels[rows]


def calibration(data: Data, seed: int) -> Images:
    """Some training images in random order, a function of the seed: folders are ordered by class."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "calibration"))
    chosen = torch.randperm(len(data.train), generator=generator)[:CALIBRATION_IMAGES].to(data.device)
    return data.train.part(chosen)
