"""The positive controls against their formulas, computed by hand in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn, optim

from sgabench.errors import InputError
from sgabench.optimizers.proximal import GRDA, Proximal
from sgabench.plugins import optimizers

Named = list[tuple[str, nn.Parameter]]


def parameters() -> Named:
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv.weight": (4, 3, 3, 3), "bn.weight": (4,), "fc.weight": (5, 4)}
    return [
        (name, nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)))
        for name, shape in shapes.items()
    ]


def gradient(step: int, of: torch.Tensor) -> torch.Tensor:
    return torch.randn(of.shape, generator=torch.Generator().manual_seed(100 + step), dtype=torch.float64)


def advance(optimizer: optim.Optimizer, named: Named, steps: range) -> None:
    for step in steps:
        for _, parameter in named:
            parameter.grad = gradient(step, parameter)
        optimizer.step()


def shrunk(weights: np.ndarray, threshold: float) -> np.ndarray:
    return np.sign(weights) * np.maximum(np.abs(weights) - threshold, 0)


def test_proximal_sgd_is_a_gradient_step_and_soft_thresholding() -> None:
    named = parameters()
    expected = {name: parameter.detach().numpy().copy() for name, parameter in named}
    advance(Proximal(optim.SGD([p for _, p in named], lr=0.05), l1=0.3), named, range(8))
    for name, parameter in named:
        for step in range(8):
            expected[name] = expected[name] - 0.05 * gradient(step, parameter).numpy()
            if parameter.ndim >= 2:
                expected[name] = shrunk(expected[name], 0.05 * 0.3)
        np.testing.assert_allclose(parameter.detach().numpy(), expected[name], rtol=1e-12, atol=1e-15)
    assert (dict(named)["conv.weight"] == 0).any()


def test_the_threshold_follows_the_learning_rate_of_its_group() -> None:
    weights = [nn.Parameter(torch.full((2, 2), 1.0)) for _ in range(2)]
    optimizer = Proximal(optim.SGD([{"params": [weights[0]], "lr": 0.5}, {"params": [weights[1]], "lr": 0.1}]), l1=1.0)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.param_groups[1]["lr"] = 0.25  # as a schedule does
    optimizer.step()
    assert weights[0].unique().tolist() == [0.5]
    assert weights[1].unique().tolist() == [0.75]


def test_without_a_threshold_the_base_is_alone() -> None:
    wrapped, bare = parameters(), parameters()
    advance(Proximal(optim.Adam([p for _, p in wrapped]), l1=0.0), wrapped, range(5))
    advance(optim.Adam([p for _, p in bare]), bare, range(5))
    for (_, one), (_, other) in zip(wrapped, bare, strict=True):
        assert torch.equal(one, other)


def test_grda_is_the_sum_of_steps_and_a_growing_threshold() -> None:
    named, lr, c, mu = parameters(), 0.1, 0.2, 0.6
    start = {name: parameter.detach().numpy().copy() for name, parameter in named}
    advance(GRDA([p for _, p in named], lr, c, mu), named, range(7))
    threshold = c * math.sqrt(lr) * (7 * lr) ** mu  # g(n, γ) of the paper
    for name, parameter in named:
        total = start[name] - lr * sum(gradient(step, parameter).numpy() for step in range(7))
        expected = shrunk(total, threshold) if parameter.ndim >= 2 else total
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12, atol=1e-14)
    assert (dict(named)["conv.weight"] == 0).any()


@pytest.mark.parametrize("make", [lambda p: Proximal(optim.SGD(p, lr=0.1, momentum=0.9), l1=0.2), GRDA])
def test_a_state_dict_continues_to_the_same_bits(make) -> None:
    whole, halves = parameters(), parameters()
    advance(make([p for _, p in whole]), whole, range(10))
    first = make([p for _, p in halves])
    advance(first, halves, range(4))
    second = make([p for _, p in halves])
    second.load_state_dict(first.state_dict())
    advance(second, halves, range(4, 10))
    for (_, one), (_, other) in zip(whole, halves, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "problem"), [({"l1": -1.0}, "l1"), ({"momentum": -1.0}, "momentum"), ({"beta": 1.0}, "beta")]
)
def test_what_means_nothing_is_refused(options: dict[str, float], problem: str) -> None:
    with pytest.raises((InputError, ValueError), match=problem):
        optimizers["prox:SGD"].resolve(options) and optimizers["prox:SGD"].build(parameters(), 0, **options)


@pytest.mark.parametrize("options", [{"lr": 0.0}, {"c": -1.0}, {"mu": 1.0}, {"mu": float("nan")}])
def test_grda_refuses_what_means_nothing(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        GRDA([p for _, p in parameters()], **options)
