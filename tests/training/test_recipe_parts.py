"""Cutout, mixup and clipped gradients: what they do to a step, and that they leave recipes without them alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from sgabench.datasets.augmentation import cut_out
from sgabench.datasets.base import SplitDataset
from sgabench.suite.tables import Recipe
from sgabench.training.data import Data
from sgabench.training.step import Draws, GradientStep

IMAGES = torch.randint(1, 256, (32, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(32) % 4


def data() -> Data:
    none = IMAGES[:1], LABELS[:1]
    return Data.of(SplitDataset("random", tuple("abcd"), IMAGES, LABELS, *none, *none), "cpu")


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


def gradients(recipe: Recipe, parts: int = 1) -> tuple[torch.Tensor, float]:
    model = network()
    step = GradientStep(model, data(), recipe, "fp32", parts)
    step(Draws.of(recipe, 0, 0, 32, "cpu")[0])
    weight = model.get_parameter("1.weight").grad
    assert weight is not None
    return weight, float(step.totals[0])


@pytest.mark.parametrize(
    "changes",
    [{"augmentation": ("cutout",)}, {"mixup": 1.0}, {"clip_norm": 0.1}, {"schedule": "wsd"}, {"schedule": "linear"}],
)
def test_only_what_is_used_is_in_the_keys(changes: dict[str, Any]) -> None:
    before = Recipe().effective()
    assert not before.keys() & {"cutout_size", "mixup", "clip_norm", "cooldown"}
    assert Recipe(cutout_size=3, cooldown=0.5).effective() == before
    assert Recipe(**changes).effective() != before


def test_other_draws_stay_what_they_were() -> None:
    plain = Draws.of(Recipe(batch_size=16, augmentation=("crop", "flip")), 3, 1, 32, "cpu")
    more = Draws.of(Recipe(batch_size=16, augmentation=("crop", "flip", "cutout"), mixup=0.4), 3, 1, 32, "cpu")
    for name in ("order", "offsets", "flips"):
        assert torch.equal(getattr(plain, name), getattr(more, name))
    assert not plain.holes.numel()
    assert not plain.partners.numel()


def test_a_hole_is_black_and_cut_off_at_the_border() -> None:
    images = torch.full((3, 2, 6, 4), 9, dtype=torch.uint8)
    centres = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.99, 0.99]])
    black = (cut_out(images, centres, 2) == 0)[:, 0]
    assert black.nonzero().tolist() == [
        *([0, 2, 1], [0, 2, 2], [0, 3, 1], [0, 3, 2]),
        [1, 0, 0],
        *([2, 4, 2], [2, 4, 3], [2, 5, 2], [2, 5, 3]),
    ]
    assert torch.equal((cut_out(images, centres, 2) == 0)[:, 1], black)


def test_mixup_mixes_images_and_losses_by_the_same_share() -> None:
    recipe = Recipe(batch_size=32, mixup=1.0)
    drawn = Draws.of(recipe, 0, 0, 32, "cpu")[0]
    share = float(drawn.shares[0])
    assert 0 < share < 1
    assert sorted(drawn.partners.tolist()) == list(range(32))
    model, of = network(), data()
    mixed = share * of.normalize(IMAGES[drawn.order]) + (1 - share) * of.normalize(IMAGES[drawn.partners])
    losses = [F.cross_entropy(model(mixed), LABELS[which]) for which in (drawn.order, drawn.partners)]
    expected = share * losses[0] + (1 - share) * losses[1]
    (gradient,) = torch.autograd.grad(expected, [model.get_parameter("1.weight")])
    found, loss = gradients(recipe)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(found, gradient, atol=1e-6)


def test_parts_of_a_batch_add_up_to_it() -> None:
    recipe = Recipe(batch_size=32, mixup=1.0, augmentation=("cutout",), clip_norm=0.5)
    whole, parts = gradients(recipe), gradients(recipe, parts=2)
    assert torch.allclose(whole[0], parts[0], atol=1e-6)
    assert whole[1] == pytest.approx(parts[1], rel=1e-5)


def test_gradients_are_clipped_together_and_never_stretched() -> None:
    plain, _ = gradients(Recipe(batch_size=32))
    clipped, _ = gradients(Recipe(batch_size=32, clip_norm=1e-3))
    assert torch.allclose(clipped / clipped.norm(), plain / plain.norm(), atol=1e-6)
    assert clipped.norm() < 1e-3
    assert torch.equal(gradients(Recipe(batch_size=32, clip_norm=1e6))[0], plain)
