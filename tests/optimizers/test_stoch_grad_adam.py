"""StochGradAdam against its formula, torch.optim.Adam, and the habits of torch's optimizers."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sgabench.optimizers import mask
from sgabench.optimizers.implementations import problem
from sgabench.optimizers.stoch_grad_adam import StochGradAdam

SHAPES = [(6, 3, 3, 3), (6,), (1,), (5, 6), (2, 0)]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
IMPLEMENTATIONS = [
    "single",
    "foreach",
    *(
        pytest.param(name, marks=pytest.mark.skipif(problem(name) is not None, reason=str(problem(name))))
        for name in ("compiled", "triton")
    ),
]
every_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
every_other = pytest.mark.parametrize("implementation", IMPLEMENTATIONS[1:])


def parameters(dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(s, generator=generator).to(device, dtype)) for s in SHAPES]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def train(
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    steps: int = 20,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> list[Tensor]:
    of = parameters(dtype, device)
    optimizer = make(of)
    advance(optimizer, of, range(steps))
    return [parameter.detach() for parameter in of]


def advance(optimizer: torch.optim.Optimizer, of: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for parameter, gradient in zip(of, gradients(step), strict=True):
            parameter.grad = gradient.to(parameter)
        optimizer.step()


def reference(
    steps: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    sampling_rate: float = 0.8,
    seed: int = 0,
    decoupled_weight_decay: bool = False,
    bias_correction: bool = True,
    rescale: bool = False,
    mask_weight_decay: bool = True,
    maximize: bool = False,
) -> list[np.ndarray]:
    """The formula in float64, over all parameters as one vector."""
    sizes = [parameter.numel() for parameter in parameters()]
    theta = np.concatenate([p.detach().double().numpy().ravel() for p in parameters()])
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = np.concatenate([gradient.double().numpy().ravel() for gradient in gradients(t - 1)])
        omega = mask.bernoulli(seed, t, 0, len(theta), sampling_rate).double().numpy()
        if rescale:
            omega = omega / sampling_rate
        if maximize:
            g = -g
        if decoupled_weight_decay:
            theta = theta * (1 - lr * weight_decay)
            phi = omega * g
        elif mask_weight_decay:
            phi = omega * (g + weight_decay * theta)
        else:
            phi = omega * g + weight_decay * theta
        m = betas[0] * m + (1 - betas[0]) * phi
        v = betas[1] * v + (1 - betas[1]) * phi**2
        m_hat, v_hat = m, v
        if bias_correction:
            m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        theta = theta - lr * m_hat / (np.sqrt(v_hat) + eps)
    return np.split(theta, np.cumsum(sizes)[:-1])


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree() -> None:
    for one, other in zip(
        train(lambda p: StochGradAdam(p), device="cuda"), train(lambda p: StochGradAdam(p)), strict=True
    ):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-5, atol=1e-6)
