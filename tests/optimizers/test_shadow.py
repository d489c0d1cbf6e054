"""Matched step norms: against hand calculations, with every base, through state dicts and copies."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim

from sgabench.optimizers import mask
from sgabench.optimizers.grouping import decay_weights_only
from sgabench.optimizers.sampled import Sampled
from sgabench.plugins import TrainingContext, optimizers

SHAPES = [(6, 3, 3, 3), (6,), (5, 6)]
COUNT = 162 + 6 + 30
RATE = 0.6
BASES: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.01),
    "fused Adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1, amsgrad=True, fused=True),
    "AdamW": optim.AdamW,
    "NAdam": lambda p: optim.NAdam(p, weight_decay=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, weight_decay=0.01, momentum=0.5),
    "Adagrad": lambda p: optim.Adagrad(p, weight_decay=0.01),
    "Rprop": optim.Rprop,
    "Adafactor": optim.Adafactor,
}


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def advance(optimizer: optim.Optimizer, of: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for parameter, gradient in zip(of, gradients(step), strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        optimizer.step()


def vector(tensors: Any) -> np.ndarray:
    return np.concatenate([tensor.detach().double().numpy().ravel() for tensor in tensors])


def omega(step: int) -> np.ndarray:
    return mask.bernoulli(4, step, 0, COUNT, RATE).double().numpy()


def matched(base: optim.Optimizer, **options: Any) -> Sampled:
    return Sampled(base, sampling_rate=RATE, seed=4, step_norm="base", **options)


def test_around_sgd_it_follows_the_formula() -> None:
    lr, momentum, decay = 0.1, 0.9, 0.05
    of = parameters(torch.float64)
    theta, velocity, whole = vector(of), np.zeros(COUNT), np.zeros(COUNT)
    for t in range(1, 11):
        g = vector(gradients(t - 1)) + decay * theta
        velocity = momentum * velocity + omega(t) * g
        whole = momentum * whole + g
        theta = theta - lr * velocity * np.linalg.norm(whole) / np.linalg.norm(velocity)
    advance(matched(optim.SGD(of, lr=lr, momentum=momentum, weight_decay=decay)), of, range(10))
    np.testing.assert_allclose(vector(of), theta, rtol=1e-9, atol=1e-10)


def test_around_adam_it_follows_the_formula() -> None:
    lr, beta1, beta2, eps = 0.01, 0.9, 0.99, 1e-8
    of = parameters(torch.float64)
    theta = vector(of)
    moments = {kind: [np.zeros(COUNT), np.zeros(COUNT)] for kind in ("sampled", "whole")}
    for t in range(1, 11):
        g = vector(gradients(t - 1))
        steps = {}
        for kind, phi in (("sampled", omega(t) * g), ("whole", g)):
            m, v = moments[kind]
            moments[kind] = [beta1 * m + (1 - beta1) * phi, beta2 * v + (1 - beta2) * phi**2]
            m, v = moments[kind]
            steps[kind] = lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        theta = theta - steps["sampled"] * np.linalg.norm(steps["whole"]) / np.linalg.norm(steps["sampled"])
    advance(matched(optim.Adam(of, lr=lr, betas=(beta1, beta2), eps=eps)), of, range(10))
    np.testing.assert_allclose(vector(of), theta, rtol=1e-9, atol=1e-10)


def test_a_masked_update_is_as_long_as_the_whole_one() -> None:
    of = parameters(torch.float64)
    theta, g = vector(of), vector(gradients(0))
    kept = omega(1) * g
    advance(matched(optim.SGD(of, lr=0.1), mask="update"), of, range(1))
    np.testing.assert_allclose(vector(of), theta - 0.1 * kept * np.linalg.norm(g) / np.linalg.norm(kept), rtol=1e-9)


@pytest.mark.parametrize("base", BASES)
def test_at_rate_one_nothing_is_left_to_match(base: str) -> None:
    plain, sampled = parameters(), parameters()
    advance(BASES[base](plain), plain, range(6))
    advance(Sampled(BASES[base](sampled), sampling_rate=1.0, step_norm="base"), sampled, range(6))
    np.testing.assert_allclose(vector(sampled), vector(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("base", BASES)
def test_a_state_dict_continues_to_the_same_bits(base: str, channels_last: bool) -> None:
    def fresh() -> list[nn.Parameter]:
        of = parameters()
        if channels_last:
            of[0].data = of[0].data.contiguous(memory_format=torch.channels_last)
        return of

    whole, of = fresh(), fresh()
    advance(matched(BASES[base](whole)), whole, range(8))
    first = matched(BASES[base](of))
    advance(first, of, range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = matched(BASES[base](of))
    second.load_state_dict(torch.load(file, weights_only=True))
    advance(second, of, range(3, 8))
    assert np.array_equal(vector(of), vector(whole))


def test_a_copy_is_independent_and_continues_equally() -> None:
    of = parameters()
    optimizer = matched(optim.Adam(of))
    advance(optimizer, of, range(3))
    twin, twins = copy.deepcopy((optimizer, of))
    advance(optimizer, of, range(3, 6))
    advance(twin, twins, range(3, 6))
    assert np.array_equal(vector(of), vector(twins))


def test_schedules_groups_and_gradients_that_are_missing() -> None:
    of = parameters(torch.float64)
    optimizer = matched(optim.SGD(of[:2], lr=0.1, weight_decay=0.1))
    decay_weights_only(optimizer)
    advance(optimizer, of, range(1))
    optimizer.add_param_group({"params": [of[2]], "lr": 0.3})
    before = vector(of)
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    of[1].grad = None
    optimizer.step()
    moved = vector(of) - before
    g, rates = vector([of[0].grad, torch.zeros(6), of[2].grad]), np.repeat([0.05, 0.05, 0.15], [162, 6, 30])
    decayed = g + np.repeat([0.1, 0.0, 0.1], [162, 6, 30]) * before
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(rates * decayed))
    assert np.array_equal(moved[162:168], np.zeros(6))


def test_the_option_enters_keys_only_where_it_is_used() -> None:
    plugin = optimizers["sampled:Adam"]
    assert plugin.resolve({}) == plugin.resolve({"step_norm": "own"})
    assert "step_norm" not in plugin.resolve({})
    options = plugin.resolve({"step_norm": "base"})
    assert options["step_norm"] == "base"
    named = [(str(number), parameter) for number, parameter in enumerate(parameters())]
    assert plugin.build(named, 0, TrainingContext(10, 5, {}), **options).step_norm == "base"
    assert plugin.build(named, 0, TrainingContext(10, 5, {}), **plugin.resolve({})).step_norm == "own"
