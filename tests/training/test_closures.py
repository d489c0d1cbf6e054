"""Optimizers that look at a batch more than once, in the loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_training import RECIPE, make_data, make_network, same
from torch import nn

from sgabench.optimizers.two_passes import SAM, CrAM
from sgabench.suite.tables import Recipe
from sgabench.training.loop import train
from sgabench.training.step import Draws, GradientStep, Replayed

AUGMENTED = Recipe(batch_size=32, augmentation=("crop", "flip"), crop_padding=2)


def gradients(network: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_same_batch_again_gives_the_same_and_is_counted_once(parts: int, precision: str) -> None:
    network, data = make_network(), make_data()
    step = GradientStep(network, data, AUGMENTED, precision, parts)
    step(Draws.of(AUGMENTED, 0, 0, 96, "cpu")[1])
    first, buffers, totals = gradients(network), [b.clone() for b in network.buffers()], step.totals.clone()
    loss = step.again()
    assert all(map(torch.equal, gradients(network), first))
    assert all(map(torch.equal, network.buffers(), buffers))
    assert torch.equal(step.totals, totals)
    assert float(loss) == pytest.approx(float(totals[0]), rel=1e-6)
    assert step.number == 2
    with torch.no_grad():
        network[-1].weight.mul_(2)  # what comes before BatchNorm may be scaled without effect
    assert float(step.again()) != pytest.approx(float(totals[0]), rel=1e-4)
    assert all(map(torch.equal, network.buffers(), buffers))


@pytest.mark.parametrize("make", [lambda base: SAM(base, rho=0.5), lambda base: CrAM(base, rho=0.5)])
def test_statistics_after_a_step_are_those_of_one_pass(make: Any) -> None:
    """The optimizer does not move, so that every step of the epoch has the same weights with and without it."""
    recipe = RECIPE.model_copy(update={"epochs": 1})
    networks, losses = [], []
    for wrap in (make, lambda base: base):
        network = make_network()
        optimizer = wrap(torch.optim.SGD(network.parameters(), lr=0.0))
        training = train(network, optimizer, make_data(), recipe, 0, precision="fp32")
        networks.append(network)
        losses.append((training.history[0]["loss"], training.history[0]["top1"]))
    assert same(*networks)
    assert losses[0] == losses[1]


def test_passes_are_counted() -> None:
    network = make_network()
    optimizer = SAM(torch.optim.SGD(network.parameters(), lr=0.05), rho=0.05)
    assert train(network, optimizer, make_data(), RECIPE, 0, precision="fp32").passes == 2 * 9
    lbfgs = torch.optim.LBFGS(network.parameters(), lr=0.1, max_iter=3)
    assert train(network, lbfgs, make_data(), RECIPE, 0, precision="fp32").passes == (1 + 3) * 9


def test_what_looks_twice_is_never_captured() -> None:
    def capture(step: GradientStep) -> Replayed:
        raise AssertionError("captured")

    recipe = RECIPE.model_copy(update={"epochs": 100})  # enough to make a capture worth trying
    network = make_network()
    base = torch.optim.SGD(network.parameters(), lr=0.05)
    train(network, SAM(base), make_data(), recipe, 0, precision="fp32", capture=capture)
    with pytest.raises(AssertionError, match="captured"):
        train(network, base, make_data(), recipe, 0, precision="fp32", capture=capture)
