"""StochGradAdam against its formula and torch.optim.Adam, in every implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stoch_grad_adam import (
    DEVICES,
    advance,
    every_implementation,
    every_other,
    gradients,
    parameters,
    reference,
    train,
)
from torch import nn

from sgabench.optimizers import mask
from sgabench.optimizers.stoch_grad_adam import StochGradAdam

OPTIONS: list[dict[str, Any]] = [
    {},
    {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3},
    {"sampling_rate": 0.3, "seed": 2**62 + 1},
    {"bias_correction": False},
    {"rescale": True, "sampling_rate": 0.5},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "rescale": True},
    {"weight_decay": 0.1, "mask_weight_decay": False},
    {"weight_decay": 0.1, "maximize": True},
    {"weight_decay": 0.1, "mask_weight_decay": False, "maximize": True},
    {"weight_decay": 0.1, "decoupled_weight_decay": True},
    {"maximize": True},
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("implementation", ["single", "foreach"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_follows_its_formula(options: dict[str, Any], implementation: str, device: str) -> None:
    trained = train(lambda p: StochGradAdam(p, implementation=implementation, **options), 20, torch.float64, device)
    for got, expected in zip(trained, reference(20, **options), strict=True):
        # the factors are float32: 1 / 0.3 has eight digits
        np.testing.assert_allclose(got.cpu().numpy().ravel(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
@every_other
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_implementation_agrees_with_the_reference_in_float32(
    options: dict[str, Any], implementation: str, device: str
) -> None:
    single = train(lambda p: StochGradAdam(p, implementation="single", **options), 50, device=device)
    other = train(lambda p: StochGradAdam(p, implementation=implementation, **options), 50, device=device)
    for one, two in zip(single, other, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@every_implementation
@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.1}, {"maximize": True}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    ids=str,
)
def test_rate_one_is_torch_adam(options: dict[str, Any], implementation: str, device: str) -> None:
    adam = train(lambda p: torch.optim.Adam(p, lr=0.01, **options), 50, device=device)
    own = train(
        lambda p: StochGradAdam(p, lr=0.01, sampling_rate=1.0, implementation=implementation, **options),
        50,
        device=device,
    )
    for one, other in zip(own, adam, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@every_implementation
@pytest.mark.parametrize("last", [False, True], ids=["row-major", "channels last"])
def test_every_implementation_draws_the_same_mask(implementation: str, device: str, last: bool) -> None:
    shapes = [(7,), (12, 5, 3, 3), (0,), (40, 50), (2, 3, 4, 5, 6)]
    of = [nn.Parameter(torch.zeros(shape, device=device)) for shape in shapes]
    if last:
        of[1].data = of[1].data.to(memory_format=torch.channels_last)
        of[4].data = of[4].data.to(memory_format=torch.channels_last_3d)
    optimizer = StochGradAdam(of, lr=0.1, betas=(0.0, 0.0), sampling_rate=0.7, seed=5, implementation=implementation)
    for step in range(1, 4):
        for parameter in of:
            parameter.data.zero_()
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        moved = torch.cat([parameter.detach().flatten() for parameter in of]).cpu() != 0
        assert torch.equal(moved, mask.bernoulli(5, step, 0, len(moved), 0.7).bool())


def test_a_masked_element_of_a_fresh_optimizer_does_not_move() -> None:
    parameter = nn.Parameter(torch.zeros(1000))
    parameter.grad = torch.ones(1000)
    StochGradAdam([parameter], lr=0.1, sampling_rate=0.7, seed=5).step()
    kept = mask.bernoulli(5, 1, 0, 1000, 0.7)
    torch.testing.assert_close(parameter.detach(), -0.1 * kept)


@every_implementation
def test_gradients_are_left_alone(implementation: str) -> None:
    of = parameters()
    optimizer = StochGradAdam(of, weight_decay=0.1, maximize=True, implementation=implementation)
    advance(optimizer, of, range(1))
    for parameter, gradient in zip(of, gradients(0), strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


def test_seeds_differ_and_repeat() -> None:
    one, again, other = (train(lambda p, s=seed: StochGradAdam(p, seed=s))[0] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_groups_have_their_own_options() -> None:
    def grouped(p: list[nn.Parameter]) -> StochGradAdam:
        full = {"params": p[:1], "sampling_rate": 1.0, "lr": 0.1, "betas": (0.5, 0.6), "eps": 1e-2}
        return StochGradAdam([full, {"params": p[1:], "weight_decay": 0.1}], lr=0.01)

    trained = train(grouped, dtype=torch.float64)
    full = reference(20, sampling_rate=1.0, lr=0.1, betas=(0.5, 0.6), eps=1e-2)[0]
    np.testing.assert_allclose(trained[0].numpy().ravel(), full, rtol=1e-6)
    rest = reference(20, lr=0.01, weight_decay=0.1)[1:]
    for got, expected in zip(trained[1:], rest, strict=True):
        np.testing.assert_allclose(got.numpy().ravel(), expected, rtol=1e-6)


@every_implementation
def test_excluded_parameters_follow_plain_adam(implementation: str) -> None:
    names = ["conv.weight", "bn.weight", "bn.bias", "fc.weight", "empty"]
    plain = train(lambda p: torch.optim.Adam(p, foreach=False))
    masked = train(lambda p: StochGradAdam(p, implementation=implementation))
    trained = train(
        lambda p: StochGradAdam(list(zip(names, p, strict=True)), exclude=("*bn*",), implementation=implementation)
    )
    for index, name in enumerate(names):
        torch.testing.assert_close(trained[index], (plain if "bn" in name else masked)[index])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree() -> None:
    for one, other in zip(
        train(lambda p: StochGradAdam(p), device="cuda"), train(lambda p: StochGradAdam(p)), strict=True
    ):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-5, atol=1e-6)
