"""Optimizers that train at other weights than those that are good."""

from __future__ import annotations

import copy

import pytest
import schedulefree
import torch
from test_training import RECIPE, make_data, make_network, same
from torch import nn

from sgabench.models.statistics import reestimate_batch_norm
from sgabench.training.data import batches, calibration
from sgabench.training.evaluation import evaluate
from sgabench.training.loop import train
from sgabench.training.step import Draws, GradientStep


class Offset(torch.optim.SGD):
    """Plain SGD whose good weights are those that it trains at, and one more."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__(parameters, lr=0.05)
        self.calls: list[str] = []

    def train(self) -> None:
        self._move("train", -1.0)

    def eval(self) -> None:
        self._move("eval", 1.0)

    @torch.no_grad()
    def _move(self, to: str, by: float) -> None:
        if self.calls[-1:] == [to]:
            return
        for parameter in self.param_groups[0]["params"] if self.calls else []:  # it begins at those it trains at
            parameter.add_(by)
        self.calls.append(to)


def test_evaluations_and_the_result_are_of_the_good_weights() -> None:
    data = make_data(validation=40)
    network = make_network()
    optimizer = Offset(list(network.parameters()))
    seen: list[float] = []

    def remember() -> None:
        seen.append(float(network[0].bias.detach().mean()))

    training = train(network, optimizer, data, RECIPE, 0, precision="fp32", after_step=remember)
    assert optimizer.calls == ["train", "eval"] * 3
    plain = make_network()
    train(plain, torch.optim.SGD(plain.parameters(), lr=0.05), make_data(), RECIPE, 0, precision="fp32")
    for moved, parameter in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(moved, parameter + 1)  # two roundings per epoch
    top1, loss, _ = evaluate(network, data, data.validation, "fp32")
    assert training.history[-1]["validation_loss"] == pytest.approx(loss)
    assert training.history[-1]["validation_top1"] == top1
    # After each exchange of weights, too, so that pruned ones stay at zero: two an epoch, and one at the end.
    assert len(seen) == 3 * (3 + 2) + 1


def test_statistics_belong_to_the_weights() -> None:
    data, network = make_data(), make_network()
    train(network, Offset(list(network.parameters())), data, RECIPE, 0, precision="fp32")
    again = copy.deepcopy(network)
    reestimate_batch_norm(again, batches(data, calibration(data, 0), RECIPE.batch_size))
    assert same(network, again)


@pytest.mark.parametrize("name", ["AdamW", "SGD", "RAdam"])
def test_schedule_free_training_is_that_of_the_loop_of_its_authors(name: str) -> None:
    kind = {"AdamW": schedulefree.AdamWScheduleFree, "SGD": schedulefree.SGDScheduleFree}
    kind["RAdam"] = schedulefree.RAdamScheduleFree
    data = make_data()
    network, expected = make_network(), make_network()
    train(network, kind[name](network.parameters(), lr=0.02), data, RECIPE, 0, precision="fp32")
    optimizer = kind[name](expected.parameters(), lr=0.02)
    step = GradientStep(expected, data, RECIPE, "fp32")
    for epoch in range(RECIPE.epochs):
        expected.train()
        optimizer.train()
        draws = Draws.of(RECIPE, 0, epoch, 96, "cpu")
        for number in range(3):
            step(draws[number])
            optimizer.step()
    trained_at = [parameter.detach().clone() for parameter in expected.parameters()]
    optimizer.eval()
    assert all(map(torch.equal, network.parameters(), expected.parameters()))
    assert not torch.equal(network[-1].weight, trained_at[-2])
