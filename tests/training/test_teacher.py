"""Learning from the dense network."""

from __future__ import annotations

import copy

import torch
from test_training import make_data, make_network, same, sgd
from torch import nn

from sgabench.suite.tables import Recipe
from sgabench.training.distillation import Teacher
from sgabench.training.loop import train


def test_the_loss_is_its_formula() -> None:
    torch.manual_seed(0)
    teacher = nn.Linear(3, 4)
    images, logits, loss = torch.randn(5, 3), torch.randn(5, 4), torch.tensor(1.7)
    found = Teacher(teacher, 0.3, 2.5).mix(loss, logits, images)
    p = torch.softmax(teacher(images).double() / 2.5, 1)
    q = torch.softmax(logits.double() / 2.5, 1)
    divergence = (p * (p / q).log()).sum() / 5
    torch.testing.assert_close(found.double(), 0.7 * 1.7 + 0.3 * 2.5**2 * divergence, rtol=1e-5, atol=0)
    assert not Teacher(teacher, 1.0, 1.0).mix(loss, teacher(images), images).abs() > 1e-6


def test_a_network_learns_from_its_teacher_alone() -> None:
    data, recipe = make_data(), Recipe(epochs=6, batch_size=16)
    teacher = make_network()
    train(teacher, sgd(teacher), data, recipe, 0, precision="fp32")
    before = copy.deepcopy(teacher)
    network = make_network(seed=1)
    images = data.normalize(data.test.images)

    def distance() -> float:
        with torch.no_grad():
            return float((network.eval()(images).softmax(1) - teacher(images).softmax(1)).abs().mean())

    untrained = distance()
    train(network, sgd(network), data, recipe, 0, precision="fp32", teacher=Teacher(teacher, 1.0, 4.0))
    assert distance() < untrained / 3
    assert same(teacher, before)
