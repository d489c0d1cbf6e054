"""Augmentation of whole batches, on any device.

Nothing here draws random numbers: they are passed as tensors, so that only the caller decides what a seed means. The
results are the same bits on every device, and a batch in the channels_last memory format stays in it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Scale to [0, 1], subtract the mean, divide by the standard deviation.

    Args:
        images: uint8 (N, C, H, W).
        mean: float64 (C,), of values in [0, 1], on the device of the images.
        std: float64 (C,), likewise; none is 0.

    Returns:
        float32 (N, C, H, W).
    """
    scale = (1 / (255 * std)).float()[:, None, None]
    shift = (-mean / std).float()[:, None, None]
    # multiplication and addition separately: fused, they would round differently on some devices
    return images.to(torch.float32).mul_(scale).add_(shift)


def pad_and_crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Shift each image by up to `padding` pixels; zeros move in (He et al. 2015, section 4.2).

    Meant for uint8 images, before `normalize`: zeros are black then, as in the usual recipe of
    torchvision's RandomCrop. (He et al. pad images whose mean is subtracted: theirs are grey.)

    Args:
        images: (N, C, H, W), any type.
        offsets: int64 (N, 2), the row and the column of the crop in the padded image, each in
            [0, 2 * padding]; `padding` leaves an image where it was.
        padding: pixels added to each side.

    Returns:
        The shape and type of `images`.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (padding, padding, padding, padding))
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (N, C, row, column, H, W)
    example = torch.arange(len(images), device=images.device)
    return crops[example, :, offsets[:, 0], offsets[:, 1]]


def resized_crop(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a box out of each image and resize it bilinearly (Szegedy et al. 2014, arXiv 1409.4842).

    In integers, so that the result is the same on every device; without antialiasing, which matters only if boxes are
    much larger than the size.

    Args:
        images: uint8 (N, C, H, W).
        boxes: float32 (N, 4): height and width as fractions of the image's, in (0, 1]; and the position of the box as a
            fraction of the room that it leaves, from the top and from the left, in [0, 1).
        size: height and width of the result.

    Returns:
        uint8 (N, C, *size).
    """
    found = images.to(torch.int32)
    for axis in (0, 1):  # first rows, then columns
        length, wanted = images.shape[2 + axis], size[axis]
        box = (boxes[:, axis] * length).round().long().clamp(1, length)
        start = torch.minimum((boxes[:, 2 + axis] * (length - box + 1)).long(), length - box)
        middle = 2 * torch.arange(wanted, device=images.device) + 1
        place = (middle * box[:, None] * 128 // wanted - 128).clamp(min=0)  # in 256ths of a pixel of the box
        place = torch.minimum(place, 256 * (box[:, None] - 1))
        first, share = place // 256, (place % 256).to(torch.int32)
        second = torch.minimum(first + 1, box[:, None] - 1)
        shape = (-1, 1, wanted, 1) if axis == 0 else (-1, 1, 1, wanted)
        onto = list(found.shape)
        onto[2 + axis] = wanted
        ends = [found.gather(2 + axis, (start[:, None] + index).view(shape).expand(onto)) for index in (first, second)]
        found = ends[0] * (256 - share).view(shape) + ends[1] * share.view(shape)
    return ((found + 2**15) >> 16).to(torch.uint8)


def centre(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The central crop of images.

    Args:
        images: (N, C, H, W), any type.
        size: height and width of the result, each at most that of the images.

    Returns:
        A view of them.
    """
    top, left = ((length - wanted) // 2 for length, wanted in zip(images.shape[2:], size, strict=True))
    return images[:, :, top : top + size[0], left : left + size[1]]


def flip(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror the chosen images left to right.

    Args:
        images: (N, C, H, W), any type.
        flips: bool (N,), which to mirror.

    Returns:
        The shape and type of `images`.
    """
    return torch.where(flips[:, None, None, None], images.flip(-1), images)


def cut_out(images: Tensor, centres: Tensor, size: int) -> Tensor:
    """Make a square of each image black (DeVries & Taylor 2017, arXiv 1708.04552); what lies outside is cut off.

    Args:
        images: (N, C, H, W), any type.
        centres: float32 (N, 2), the middle of the square as parts of height and width, each in [0, 1).
        size: pixels of a side.

    Returns:
        The shape and type of `images`.
    """
    inside = []
    for axis, length in enumerate(images.shape[2:]):
        start = (centres[:, axis] * length).long() - size // 2
        place = torch.arange(length, device=images.device) - start[:, None]
        inside.append((place >= 0) & (place < size))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(hole, 0)
