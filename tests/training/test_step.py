from __future__ import annotations

import pytest
import torch
from test_training import RECIPE, make_data, make_network, same
from torch import nn
from torch.nn import functional as F  # noqa: N812

from sgabench.suite.tables import Recipe
from sgabench.training.step import Draws, GradientStep, batch_order


def test_an_epoch_sees_every_image_once_but_the_rest_of_the_last_batch() -> None:
    order = batch_order(seed=3, epoch=0, images=100, batch_size=32)
    assert order.shape == (3, 32)
    assert len(set(order.flatten().tolist())) == 96
    assert not torch.equal(order, batch_order(3, 1, 100, 32))
    assert not torch.equal(order, batch_order(4, 0, 100, 32))


def test_augmentation_is_a_function_of_seed_and_epoch() -> None:
    images = make_data(train=32).train.images

    def augmented(seed: int, epoch: int, recipe: Recipe = RECIPE) -> torch.Tensor:
        return Draws.of(recipe, seed, epoch, 32, "cpu")[0].augment(images, recipe)

    assert torch.equal(augmented(0, 0), augmented(0, 0))
    assert not torch.equal(augmented(0, 0), augmented(0, 1))
    assert not torch.equal(augmented(0, 0), augmented(1, 0))
    assert torch.equal(augmented(0, 0, Recipe(batch_size=32)), images)


def test_a_step_is_that_of_the_loop_that_everyone_writes() -> None:
    """In float64, from the same weights, batch for batch: what is left is rounding in the normalization to float32."""
    data, recipe = make_data(), Recipe(batch_size=32, label_smoothing=0.1)
    network, plain = make_network(), make_network()
    network[2] = plain[2] = nn.GELU()  # without a kink, at which rounding could take another way
    step = GradientStep(network, data, recipe, "fp32")
    loss_sum, correct = 0.0, 0.0
    for epoch in range(2):
        draws = Draws.of(recipe, 0, epoch, 96, "cpu")
        for number in range(3):
            plain.load_state_dict(network.state_dict())
            plain.double()
            step(draws[number])
            images, labels = (tensor[draws.order[number]] for tensor in (data.train.images, data.train.labels))
            logits = plain((images.double() / 255 - 0.3) / 0.2)
            loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
            plain.zero_grad()
            loss.backward()
            loss_sum += loss.item()
            correct += (logits.argmax(1) == labels).double().mean().item()
            assert step.totals.tolist() == pytest.approx([loss_sum, correct], rel=1e-5)
            for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
                assert ours.grad is not None
                assert theirs.grad is not None
                # Sums over at most 32 images of 64 pixels, of terms below 1, in float32.
                assert (ours.grad.double() - theirs.grad).abs().max() <= 32 * 64 * 2**-24
            with torch.no_grad():
                for parameter in network.parameters():
                    assert parameter.grad is not None
                    parameter -= 0.05 * parameter.grad


@pytest.mark.parametrize("parts", [2, 3, 32])
def test_micro_batches_add_up_to_the_gradient_of_the_batch(parts: int) -> None:
    data = make_data()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    drawn = Draws.of(RECIPE, 0, 0, 96, "cpu")[0]
    steps = [GradientStep(network, data, RECIPE, "fp32", parts) for parts in (1, parts)]
    gradients = []
    for step in steps:
        step(drawn)
        gradients.append([parameter.grad for parameter in network.parameters()])
    for whole, added in zip(*gradients, strict=True):
        torch.testing.assert_close(added, whole)
    torch.testing.assert_close(steps[1].totals, steps[0].totals)


def test_a_step_leaves_nothing_of_the_one_before() -> None:
    data, network = make_data(), make_network()
    twin = make_network()
    draws = Draws.of(RECIPE, 0, 0, 96, "cpu")
    step = GradientStep(network, data, RECIPE, "fp32")
    step(draws[0])
    network.load_state_dict(twin.state_dict())
    step(draws[1])
    GradientStep(twin, data, RECIPE, "fp32")(draws[1])
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)
    assert same(network, twin)
