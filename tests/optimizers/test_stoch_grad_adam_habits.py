"""StochGradAdam has the habits of torch's optimizers: states, groups, layouts, closures, schedules."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from stoch_grad_adam import (
    IMPLEMENTATIONS,
    advance,
    every_implementation,
    gradients,
    parameters,
    reference,
    train,
)
from torch import Tensor, nn

from sgabench.optimizers.stoch_grad_adam import StochGradAdam


@every_implementation
def test_a_resumed_training_continues_bit_for_bit(implementation: str) -> None:
    options: dict[str, Any] = {"sampling_rate": 0.6, "weight_decay": 0.01, "implementation": implementation}
    whole = train(lambda p: StochGradAdam(p, seed=9, **options), 20)
    of = parameters()
    first = StochGradAdam(of, seed=9, **options)
    advance(first, of, range(8))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = StochGradAdam(of, seed=1, **options)
    second.load_state_dict(torch.load(file, weights_only=True))
    advance(second, of, range(8, 20))
    for one, other in zip(of, whole, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_parameters_have_float32_moments_that_survive_a_resume(dtype: torch.dtype) -> None:
    of = parameters(dtype)
    whole = train(lambda p: StochGradAdam(p, lr=0.1), 6, dtype)
    first = StochGradAdam(of, lr=0.1)
    advance(first, of, range(3))
    assert first.state[of[0]]["exp_avg_sq"].dtype == torch.float32
    second = StochGradAdam(of)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(second.state[of[0]]["exp_avg_sq"], first.state[of[0]]["exp_avg_sq"])
    advance(second, of, range(3, 6))
    for one, other, exact in zip(of, whole, reference(6, lr=0.1), strict=True):
        assert torch.equal(one, other)
        np.testing.assert_allclose(one.detach().double().numpy().ravel(), exact, rtol=0.05, atol=0.05)


def test_a_copy_is_independent_and_continues_equally() -> None:
    of = parameters()
    optimizer = StochGradAdam(of)
    advance(optimizer, of, range(3))
    twin, twins = copy.deepcopy((optimizer, of))
    advance(optimizer, of, range(3, 6))
    advance(twin, twins, range(3, 6))
    for one, other in zip(of, twins, strict=True):
        assert torch.equal(one, other)


@every_implementation
def test_parameters_without_gradient_are_skipped_and_change_nothing_else(implementation: str) -> None:
    complete = train(lambda p: StochGradAdam(p, implementation=implementation), 3)
    of = parameters()
    start = of[1].detach().clone()
    optimizer = StochGradAdam(of, implementation=implementation)
    for step in range(3):
        for index, (parameter, gradient) in enumerate(zip(of, gradients(step), strict=True)):
            parameter.grad = None if index == 1 else gradient
        optimizer.step()
    assert torch.equal(of[1], start)
    assert of[1] not in optimizer.state
    for index in (0, 2, 3):
        assert torch.equal(of[index], complete[index])


@every_implementation
def test_channels_last_parameters_train_as_contiguous_ones(implementation: str) -> None:
    expected = train(lambda p: StochGradAdam(p, implementation=implementation))
    for gradients_follow in (True, False):
        of = parameters()
        of[0].data = of[0].data.contiguous(memory_format=torch.channels_last)
        optimizer = StochGradAdam(of, implementation=implementation)
        for step in range(20):
            for parameter, gradient in zip(of, gradients(step), strict=True):
                parameter.grad = torch.empty_like(parameter).copy_(gradient) if gradients_follow else gradient
            optimizer.step()
        torch.testing.assert_close(of[0].detach(), expected[0], rtol=1e-6, atol=1e-7)


@every_implementation
def test_parameters_of_any_type_and_layout_train_together(implementation: str) -> None:
    types = [torch.float32, torch.float64, torch.bfloat16, torch.float32, torch.float16]

    def mixed() -> list[nn.Parameter]:
        of = [nn.Parameter(p.detach().to(d)) for p, d in zip(parameters(), types, strict=True)]
        of[3].data = torch.empty(6, 20)[:, :5].t().copy_(of[3].data)
        return of

    one, other = mixed(), mixed()
    advance(StochGradAdam(one, implementation="single"), one, range(20))
    advance(StochGradAdam(other, implementation=implementation), other, range(20))
    for expected, got in zip(one, other, strict=True):
        assert got.dtype == expected.dtype
        torch.testing.assert_close(got, expected)


@every_implementation
@pytest.mark.parametrize("then", IMPLEMENTATIONS)
def test_a_state_dict_goes_from_one_implementation_to_another(implementation: str, then: str) -> None:
    whole = train(lambda p: StochGradAdam(p, seed=3, implementation="single"))
    of = parameters()
    first = StochGradAdam(of, seed=3, implementation=implementation)
    advance(first, of, range(8))
    second = StochGradAdam(of, implementation=then)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert float(second.state[of[0]]["step"]) == 8
    advance(second, of, range(8, 20))
    for one, other in zip(of, whole, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-6, atol=1e-6)


@every_implementation
def test_a_resumed_training_does_not_depend_on_the_layout_of_the_file(implementation: str) -> None:
    def last(of: list[nn.Parameter]) -> list[nn.Parameter]:
        of[0].data = of[0].data.contiguous(memory_format=torch.channels_last)
        return of

    whole, of = last(parameters()), last(parameters())
    advance(StochGradAdam(whole, implementation=implementation), whole, range(10))
    first = StochGradAdam(of, implementation=implementation)
    advance(first, of, range(5))
    saved = copy.deepcopy(first.state_dict())
    for state in saved["state"].values():
        state.update({name: value.contiguous() for name, value in state.items()})
    second = StochGradAdam(of, implementation=implementation)
    second.load_state_dict(saved)
    advance(second, of, range(5, 10))
    for one, other in zip(of, whole, strict=True):
        assert torch.equal(one, other)


def test_closure_is_evaluated_with_gradients_and_its_loss_returned() -> None:
    parameter = nn.Parameter(torch.tensor([3.0]))
    optimizer = StochGradAdam([parameter], lr=0.1, sampling_rate=1.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        return loss.detach()

    assert float(optimizer.step(closure)) == 9.0  # type: ignore[arg-type]
    assert float(parameter.detach()) == pytest.approx(2.9)


def test_schedulers_set_the_learning_rate() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = StochGradAdam([parameter], lr=1.0, sampling_rate=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    for _ in range(3):
        parameter.grad = torch.ones(1)
        optimizer.step()
        schedule.step()
    assert float(parameter.detach()) == pytest.approx(-1.11, rel=1e-5)


def test_gradient_scaler_unscales_and_skips_steps_that_overflow() -> None:
    parameter = nn.Parameter(torch.ones(64))
    optimizer = StochGradAdam([parameter], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    other = nn.Parameter(torch.ones(64))
    unscaled = StochGradAdam([other], lr=0.1)
    for weight in (1.0, float("inf"), 2.0):
        optimizer.zero_grad()
        scaler.scale((parameter * weight).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        if weight != float("inf"):
            other.grad = torch.full((64,), weight)
            unscaled.step()
    assert torch.equal(parameter, other)


def test_the_rate_can_be_changed_between_steps() -> None:
    of = parameters()
    optimizer = StochGradAdam(of, sampling_rate=1.0)
    advance(optimizer, of, range(2))
    optimizer.param_groups[0]["sampling_rate"] = 0.5
    advance(optimizer, of, range(2, 4))
    plain = train(lambda p: StochGradAdam(p, sampling_rate=1.0), 4)
    assert not torch.equal(of[0], plain[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr"),
        ({"betas": (1.0, 0.9)}, "betas"),
        ({"betas": (0.9, -0.1)}, "betas"),
        ({"eps": 0.0}, "eps"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"sampling_rate": 0.0}, "sampling_rate"),
        ({"sampling_rate": 1.5}, "sampling_rate"),
        ({"exclude": ("*bn*",)}, "named_parameters"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StochGradAdam(parameters(), **options)
    optimizer = StochGradAdam([nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": parameters(), **options})
    assert len(optimizer.param_groups) == 1


def test_complex_parameters_and_sparse_gradients_are_refused() -> None:
    with pytest.raises(ValueError, match="complex"):
        StochGradAdam([nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3).to_sparse()
    with pytest.raises(RuntimeError, match="StochGradAdam does not support sparse gradients"):
        StochGradAdam([parameter]).step()
