"""Crops of random size and shape, stretched; and the middle of images that are larger than what a network sees."""

from __future__ import annotations

import pytest
import torch
from test_training import make_data
from torchvision.transforms.v2 import functional as reference

from sgabench.datasets.augmentation import centre, resized_crop
from sgabench.errors import InputError
from sgabench.suite.tables import Recipe
from sgabench.training.step import Draws, GradientStep

IMAGES = torch.randint(0, 256, (4, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_crops_are_torchvisions_but_for_rounding() -> None:
    """Boxes of whole pixels: 10 x 18 at (2, 3), the whole image, a pixel, 20 x 6 at the right border."""
    parts = [(10 / 20, 18 / 24, 2.5 / 11, 3.5 / 7), (1, 1, 0.7, 0.2), (1 / 20, 1 / 24, 0, 0), (1, 6 / 24, 0, 0.999)]
    boxes = [(2, 3, 10, 18), (0, 0, 20, 24), (0, 0, 1, 1), (0, 18, 20, 6)]
    for size in ((8, 8), (32, 16), (20, 24)):
        found = resized_crop(IMAGES, torch.tensor(parts), size)
        for image, box, one in zip(IMAGES, boxes, found, strict=True):
            expected = reference.resized_crop(image.float(), *box, list(size), antialias=False)
            assert (one.float() - expected).abs().max() <= 2
        assert found.dtype == torch.uint8
    assert torch.equal(resized_crop(IMAGES, torch.tensor(parts), (20, 24))[1], IMAGES[1])
    assert resized_crop(IMAGES, torch.tensor(parts), (8, 8))[2].flatten(1).unique(dim=1).shape == (3, 1)


def test_boxes_cover_the_areas_and_shapes_that_are_asked_for() -> None:
    recipe = Recipe(batch_size=100, augmentation=("resized-crop",), crop_scale=0.25)
    boxes = Draws.of(recipe, 0, 0, 5000, "cpu").boxes
    assert boxes.shape == (50, 100, 4)
    height, width, *places = boxes.unbind(-1)
    assert 0.25 <= (height * width).min() + 1e-6 < 0.27
    assert 0.98 < (height * width).max() <= 1
    assert 3 / 4 - 1e-6 <= (width / height).min() < 0.76
    assert 1.32 < (width / height).max() <= 4 / 3 + 1e-6
    assert all(0 <= place.min() < 0.01 and 0.99 < place.max() < 1 for place in places)
    assert (boxes[..., :2] <= 1).all()
    again, other = (Draws.of(recipe, 0, epoch, 5000, "cpu").boxes for epoch in (0, 1))
    assert torch.equal(boxes, again)
    assert not torch.equal(boxes, other)


def test_other_draws_and_keys_stay_what_they_were() -> None:
    plain = Draws.of(Recipe(batch_size=16, augmentation=("flip",)), 3, 1, 32, "cpu")
    more = Draws.of(Recipe(batch_size=16, augmentation=("resized-crop", "flip")), 3, 1, 32, "cpu")
    assert torch.equal(plain.order, more.order)
    assert torch.equal(plain.flips, more.flips)
    assert not plain.boxes.numel()
    assert "crop_scale" not in Recipe().effective()
    assert Recipe(crop_scale=0.5).effective() == Recipe().effective()
    with pytest.raises(ValueError, match="'crop' and 'resized-crop' are alternatives"):
        Recipe(augmentation=("crop", "resized-crop"))


def test_networks_see_the_middle_of_larger_images() -> None:
    assert torch.equal(centre(IMAGES, (10, 13)), IMAGES[:, :, 5:15, 5:18])
    data = make_data(train=32)
    side = data.spec.height
    smaller = data.cropped(side - 2)
    assert (smaller.spec.height, smaller.spec.width) == (side - 2, side - 2)
    whole = data.normalize(data.test.pixels(slice(3)))
    assert torch.equal(smaller.normalize(data.test.pixels(slice(3))), whole[:, :, 1:-1, 1:-1])
    assert data.cropped(side).spec == data.spec
    with pytest.raises(InputError, match=f"centre_crop: {side + 1} is larger than the images: {side} x {side}"):
        data.cropped(side + 1)


@pytest.mark.parametrize("augmentation", [("resized-crop", "flip", "cutout"), ("crop",), ()])
def test_batches_have_the_size_that_networks_see(augmentation: tuple[str, ...]) -> None:
    data = make_data(train=32)
    data = data.cropped(data.spec.height - 2)
    seen = []

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.flatten(1)[:, : data.spec.classes] * self.scale

    recipe = Recipe.model_validate({"batch_size": 16, "augmentation": augmentation})
    GradientStep(Network(), data, recipe, "fp32")(Draws.of(recipe, 0, 0, 32, "cpu")[0])
    assert seen[0].shape == (16, data.spec.channels, data.spec.height, data.spec.width)
