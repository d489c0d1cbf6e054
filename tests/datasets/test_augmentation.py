"""The batch operations do what a loop over images would, in any type, layout and place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sgabench.datasets.augmentation import flip, normalize, pad_and_crop


def batch(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def crop_slowly(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """One pixel after the other."""
    out = torch.zeros_like(images)
    height, width = images.shape[2:]
    for n, (down, right) in enumerate(offsets.tolist()):
        for row in range(height):
            for column in range(width):
                y, x = row + down - padding, column + right - padding
                if 0 <= y < height and 0 <= x < width:
                    out[n, :, row, column] = images[n, :, y, x]
    return out


@settings(max_examples=60)
@given(data=st.data())
def test_crop_equals_the_slow_one(data: st.DataObject) -> None:
    n, c, h, w = (data.draw(st.integers(1, 5)) for _ in range(4))
    padding = data.draw(st.integers(0, 4))
    offset = st.integers(0, 2 * padding)
    offsets = torch.tensor(data.draw(st.lists(st.tuples(offset, offset), min_size=n, max_size=n)))
    images = batch(data.draw(st.integers(0, 1000)), n, c, h, w)
    assert torch.equal(pad_and_crop(images, offsets, padding), crop_slowly(images, offsets, padding))
    floats = images.float()
    assert torch.equal(pad_and_crop(floats, offsets, padding), crop_slowly(floats, offsets, padding))


def test_crop_in_the_middle_changes_nothing() -> None:
    images = batch(0, 3, 3, 8, 6)
    assert torch.equal(pad_and_crop(images, torch.full((3, 2), 4), padding=4), images)


@given(flips=st.lists(st.booleans(), min_size=1, max_size=6))
def test_flip_mirrors_the_chosen_ones_left_to_right(flips: list[bool]) -> None:
    images = batch(1, len(flips), 2, 3, 4)
    flipped = flip(images, torch.tensor(flips))
    for image, result, chosen in zip(images, flipped, flips, strict=True):
        assert torch.equal(result, image[:, :, [3, 2, 1, 0]] if chosen else image)
    assert flipped.dtype == torch.uint8


def test_normalize_follows_the_definition() -> None:
    images = batch(2, 4, 3, 5, 5)
    mean, std = torch.tensor([0.5, 0.25, 0.1]).double(), torch.tensor([0.2, 0.3, 1.0]).double()
    expected = (images.double() / 255 - mean[:, None, None]) / std[:, None, None]
    result = normalize(images, mean, std)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-6)
    assert images.dtype == torch.uint8  # the batch itself is left alone
    assert torch.equal(images, batch(2, 4, 3, 5, 5))


def pipeline(images: Tensor, device: str = "cpu") -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    offsets = torch.randint(0, 9, (len(images), 2), generator=generator).to(device)
    flips = (torch.rand(len(images), generator=generator) < 0.5).to(device)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]).double(), torch.tensor([0.247, 0.2435, 0.2616]).double()
    cropped = pad_and_crop(images.to(device), offsets, padding=4)
    flipped = flip(cropped, flips)
    return [cropped, flipped, normalize(flipped, mean.to(device), std.to(device))]


def test_channels_last_is_kept_and_changes_no_value() -> None:
    images = batch(3, 8, 3, 16, 16)
    for plain, last in zip(pipeline(images), pipeline(images.to(memory_format=torch.channels_last)), strict=True):
        assert plain.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(plain, last)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_bits_on_a_gpu() -> None:
    images = batch(4, 128, 3, 32, 32)
    for here, there in zip(pipeline(images), pipeline(images, "cuda"), strict=True):
        assert torch.equal(here, there.cpu())


class Counting(TorchDispatchMode):
    """Counts the operations on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


def test_a_larger_batch_takes_no_more_operations() -> None:
    """Which a loop over images or pixels would."""
    counts = []
    for number, size in ((2, 8), (128, 32)):
        images = batch(5, number, 3, size, size)
        with Counting() as counting:
            pipeline(images)
        counts.append(counting.operations)
    assert counts[0] == counts[1] > 0
