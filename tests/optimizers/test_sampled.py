"""Sampling around any optimizer: against formulas, against StochGradAdam, and the wrapper's habits."""

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
from sgabench.optimizers.sampled import Sampled
from sgabench.optimizers.stoch_grad_adam import StochGradAdam

SHAPES = [(6, 3, 3, 3), (6,), (5, 6)]
NAMES = ["conv.weight", "bn.weight", "fc.weight"]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
Named = list[tuple[str, nn.Parameter]]


def parameters(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Named:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).to(device, dtype) for shape in SHAPES]
    return [(name, nn.Parameter(tensor)) for name, tensor in zip(NAMES, tensors, strict=True)]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def advance(optimizer: optim.Optimizer, of: Named, steps: range) -> None:
    for step in steps:
        for (_, parameter), gradient in zip(of, gradients(step), strict=True):
            parameter.grad = gradient.to(parameter)
        optimizer.step()


def train(
    make: Callable[[Named], optim.Optimizer],
    steps: int = 20,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> list[Tensor]:
    of = parameters(dtype, device)
    advance(make(of), of, range(steps))
    return [parameter.detach() for _, parameter in of]


def assert_equal(one: list[Tensor], other: list[Tensor], **tolerance: float) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, **(tolerance or {"rtol": 1e-5, "atol": 1e-6}))  # type: ignore[arg-type]


def vector(tensors: list[Tensor]) -> np.ndarray:
    return np.concatenate([tensor.detach().cpu().double().numpy().ravel() for tensor in tensors])


def start() -> np.ndarray:
    return vector([parameter for _, parameter in parameters()])


def omega(step: int, rate: float) -> np.ndarray:
    return mask.bernoulli(4, step, 0, len(start()), rate).double().numpy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("implementation", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize(
    ("adam", "sampling"),
    [
        ({}, {}),
        ({"lr": 0.01, "betas": (0.5, 0.9)}, {"sampling_rate": 0.3}),
        ({}, {"rescale": True}),
        ({}, {"exclude": ("*bn*",)}),
        ({"weight_decay": 0.1}, {}),
        ({"weight_decay": 0.1}, {"exclude": ("*bn*",), "rescale": True}),
        ({"weight_decay": 0.1}, {"mask_weight_decay": False}),
        ({"weight_decay": 0.1, "maximize": True}, {}),
        ({"weight_decay": 0.1, "maximize": True}, {"mask_weight_decay": False}),
        ({"weight_decay": 0.1, "decoupled_weight_decay": True}, {}),
    ],
    ids=str,
)
def test_around_adam_it_is_stochgradadam(
    adam: dict[str, Any], sampling: dict[str, Any], implementation: dict[str, bool], device: str
) -> None:
    wrapped = train(lambda p: Sampled(optim.Adam(p, **adam, **implementation), seed=7, **sampling), device=device)
    own = train(lambda p: StochGradAdam(p, seed=7, **adam, **sampling), device=device)
    assert_equal(wrapped, own)


@pytest.mark.parametrize("mask_weight_decay", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
def test_around_sgd_it_follows_the_formula(rescale: bool, mask_weight_decay: bool) -> None:
    lr, momentum, decay, rate = 0.1, 0.9, 0.05, 0.6
    theta, velocity = start(), np.zeros_like(start())
    for t in range(1, 21):
        g, kept = vector(gradients(t - 1)), omega(t, rate) / (rate if rescale else 1)
        phi = kept * (g + decay * theta) if mask_weight_decay else kept * g + decay * theta
        velocity = momentum * velocity + phi
        theta = theta - lr * velocity
    trained = train(
        lambda p: Sampled(
            optim.SGD(p, lr=lr, momentum=momentum, weight_decay=decay),
            sampling_rate=rate,
            seed=4,
            rescale=rescale,
            mask_weight_decay=mask_weight_decay,
        ),
        dtype=torch.float64,
    )
    np.testing.assert_allclose(vector(trained), theta, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rescale", [True, False])
def test_a_mask_on_the_update_keeps_the_change_where_it_is_one(rescale: bool) -> None:
    lr, momentum, decay, rate = 0.1, 0.9, 0.05, 0.6
    theta, velocity = start(), np.zeros_like(start())
    for t in range(1, 21):
        velocity = momentum * velocity + vector(gradients(t - 1)) + decay * theta
        theta = theta - lr * velocity * omega(t, rate) / (rate if rescale else 1)
    base = {"lr": lr, "momentum": momentum, "weight_decay": decay}
    trained = train(
        lambda p: Sampled(optim.SGD(p, **base), mask="update", sampling_rate=rate, seed=4, rescale=rescale),  # type: ignore[arg-type]
        dtype=torch.float64,
    )
    np.testing.assert_allclose(vector(trained), theta, rtol=1e-6, atol=1e-7)


def test_a_mask_on_the_update_rounds_nothing() -> None:
    free, held = parameters(), parameters()
    advance(optim.AdamW(free, lr=0.1), free, range(1))
    advance(Sampled(optim.AdamW(held, lr=0.1), mask="update", seed=4), held, range(1))
    kept = omega(1, 0.8) == 1
    got = vector([p for _, p in held])
    np.testing.assert_array_equal(got[kept], vector([p for _, p in free])[kept])
    np.testing.assert_array_equal(got[~kept], start()[~kept])


def test_gaussian_control_follows_the_formula() -> None:
    rate, lr = 0.7, 0.1
    theta = start()
    for t in range(1, 6):
        xi = mask.normal(4, t, 0, len(theta)).double().numpy()
        g = vector(gradients(t - 1))
        theta = theta - lr * (rate * g + np.sqrt(rate * (1 - rate)) * g * xi)
    trained = train(
        lambda p: Sampled(optim.SGD(p, lr=lr), sampling_rate=rate, seed=4, distribution="gaussian"), 5, torch.float64
    )
    np.testing.assert_allclose(vector(trained), theta, rtol=1e-5, atol=1e-6)


BASES: list[Callable[[Named], optim.Optimizer]] = [
    lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.01),
    lambda p: optim.Adam(p, weight_decay=0.01, amsgrad=True),
    lambda p: optim.AdamW(p),
    lambda p: optim.NAdam(p, weight_decay=0.01),
    lambda p: optim.RAdam(p, weight_decay=0.01, decoupled_weight_decay=True),
    lambda p: optim.RMSprop(p, weight_decay=0.01, momentum=0.5),
    lambda p: optim.Adagrad(p, weight_decay=0.01),
    lambda p: optim.Adadelta(p, weight_decay=0.01),
    lambda p: optim.Adamax(p, weight_decay=0.01),
    lambda p: optim.ASGD(p, weight_decay=0.01),
    lambda p: optim.Rprop(p),
    lambda p: optim.Adafactor(p, weight_decay=0.01),
]
IDS = [type(base(parameters())).__name__ for base in BASES]


@pytest.mark.parametrize("base", BASES, ids=IDS)
def test_rate_one_is_the_base(base: Callable[[Named], optim.Optimizer]) -> None:
    plain = train(base, 10)
    assert_equal(train(lambda p: Sampled(base(p), sampling_rate=1.0), 10), plain)
    assert_equal(train(lambda p: Sampled(base(p), sampling_rate=1.0, mask="update"), 10), plain)


@pytest.mark.parametrize("base", BASES, ids=IDS)
def test_a_resumed_training_continues_bit_for_bit(base: Callable[[Named], optim.Optimizer]) -> None:
    whole = train(lambda p: Sampled(base(p), seed=9, sampling_rate=0.6), 10)
    of = parameters()
    first = Sampled(base(of), seed=9, sampling_rate=0.6)
    advance(first, of, range(4))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = Sampled(base(of))
    second.load_state_dict(torch.load(file, weights_only=True))
    advance(second, of, range(4, 10))
    assert_equal([parameter.detach() for _, parameter in of], whole, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["gradient", "update"])
def test_gradients_and_decay_are_as_before_after_a_step_even_one_that_fails(kind: Any) -> None:
    class Failing(optim.SGD):
        def step(self, closure: Any = None) -> None:
            raise ArithmeticError

    for base in (optim.SGD, Failing):
        of = parameters()
        optimizer = Sampled(base(of, lr=0.1, weight_decay=0.1), mask=kind)
        mine = [gradient.clone() for gradient in gradients(0)]
        for (_, parameter), gradient in zip(of, mine, strict=True):
            parameter.grad = gradient
        if base is Failing:
            with pytest.raises(ArithmeticError):
                optimizer.step()
        else:
            optimizer.step()
        for (_, parameter), gradient, expected in zip(of, mine, gradients(0), strict=True):
            assert parameter.grad is gradient
            assert torch.equal(gradient, expected)
        assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_groups_are_shared_with_the_base_and_schedulers_work() -> None:
    of = parameters()
    base = optim.SGD([{"params": of[:1], "sampling_rate": 1.0}, {"params": of[1:]}], lr=1.0)
    optimizer = Sampled(base, sampling_rate=0.5, seed=4)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    expected = start()
    size = of[0][1].numel()
    for t in range(1, 4):
        kept = omega(t, 0.5)
        kept[:size] = 1
        expected = expected - 0.1 ** (t - 1) * kept * vector(gradients(t - 1))
        advance(optimizer, of, range(t - 1, t))
        schedule.step()
    np.testing.assert_allclose(vector([p for _, p in of]), expected, rtol=1e-5, atol=1e-6)
    assert base.param_groups[0]["lr"] == pytest.approx(1e-3)


def test_a_group_can_be_added() -> None:
    of = parameters()
    optimizer = Sampled(optim.SGD(of[:1], lr=0.1), seed=4)
    optimizer.add_param_group({"params": of[1:]})
    advance(optimizer, of, range(3))
    assert_equal([p.detach() for _, p in of], train(lambda p: Sampled(optim.SGD(p, lr=0.1), seed=4), 3))


def test_a_copy_is_independent_and_continues_equally() -> None:
    of = parameters()
    optimizer = Sampled(optim.Adam(of))
    advance(optimizer, of, range(3))
    twin, twins = copy.deepcopy((optimizer, of))
    advance(optimizer, of, range(3, 6))
    advance(twin, twins, range(3, 6))
    assert_equal([p.detach() for _, p in of], [p.detach() for _, p in twins], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["gradient", "update"])
def test_parameters_without_gradient_are_skipped_and_change_nothing_else(kind: Any) -> None:
    complete = train(lambda p: Sampled(optim.Adam(p, weight_decay=0.1), mask=kind), 3)
    of = parameters()
    optimizer = Sampled(optim.Adam(of, weight_decay=0.1), mask=kind)
    for step in range(3):
        for index, ((_, parameter), gradient) in enumerate(zip(of, gradients(step), strict=True)):
            parameter.grad = None if index == 1 else gradient
        optimizer.step()
    assert torch.equal(of[1][1], parameters()[1][1])
    assert of[1][1].grad is None
    assert_equal([of[0][1].detach(), of[2][1].detach()], [complete[0], complete[2]])


@pytest.mark.parametrize("kind", ["gradient", "update"])
def test_channels_last_parameters_train_as_contiguous_ones(kind: Any) -> None:
    def make(p: Named) -> Sampled:
        return Sampled(optim.Adam(p, weight_decay=0.1, fused=True), mask=kind)

    of = parameters()
    of[0][1].data = of[0][1].data.contiguous(memory_format=torch.channels_last)
    optimizer = make(of)
    for step in range(5):
        for (_, parameter), gradient in zip(of, gradients(step), strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        optimizer.step()
    assert_equal([p.detach() for _, p in of], train(make, 5))


def test_bfloat16_parameters_are_sampled() -> None:
    of = parameters(torch.bfloat16)
    advance(Sampled(optim.SGD(of, lr=0.5, weight_decay=0.1), seed=4), of, range(1))
    g, kept = vector(gradients(0)), omega(1, 0.8)
    expected = start() - 0.5 * kept * (g + 0.1 * start())
    np.testing.assert_allclose(vector([p for _, p in of]), expected, rtol=0.02, atol=0.02)


def test_closure_and_gradient_scaler() -> None:
    parameter = nn.Parameter(torch.ones(64))
    optimizer = Sampled(optim.SGD([parameter], lr=0.5), sampling_rate=1.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = parameter.sum()
        loss.backward()
        return loss.detach()

    assert float(optimizer.step(closure)) == 64.0  # type: ignore[arg-type]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for weight in (1.0, float("inf")):
        optimizer.zero_grad()
        scaler.scale((parameter * weight).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert torch.equal(parameter.detach(), torch.zeros(64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling_rate": 0.0}, "sampling_rate"),
        ({"sampling_rate": 1.5}, "sampling_rate"),
        ({"mask": "weights"}, "mask"),
        ({"distribution": "uniform"}, "distribution"),
        ({"mask": "update", "mask_weight_decay": False}, "mask_weight_decay"),
        ({"exclude": ("*bn*",)}, "named_parameters"),
        ({"step_norm": "longer"}, "step_norm"),
    ],
)
def test_invalid_options_are_refused_and_leave_the_base_usable(options: dict[str, Any], message: str) -> None:
    parameter = nn.Parameter(torch.zeros(3))
    base = optim.SGD([parameter], lr=0.1)
    with pytest.raises(ValueError, match=message):
        Sampled(base, **options)
    parameter.grad = torch.ones(3)
    base.step()
    torch.testing.assert_close(parameter.detach(), torch.full((3,), -0.1))


def test_complex_parameters_and_sparse_gradients_are_refused() -> None:
    with pytest.raises(ValueError, match="complex"):
        Sampled(optim.SGD([nn.Parameter(torch.zeros(2, dtype=torch.complex64))]))
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3).to_sparse()
    with pytest.raises(RuntimeError, match="Sampled does not support sparse gradients"):
        Sampled(optim.SGD([parameter])).step()
