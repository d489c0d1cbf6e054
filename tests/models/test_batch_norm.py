"""The compiled BatchNorm with ReLU does what PyTorch's operations do, and is only used where it does."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sgabench.models import batch_norm
from sgabench.models.batch_norm import batch_norm_relu
from sgabench.models.cifar_resnet import CifarResNet
from sgabench.system import native

needs_compiler = pytest.mark.skipif(batch_norm.problem() is not None, reason="no C++ compiler")
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 2**-8}


def activations(shape: tuple[int, ...], dtype: torch.dtype, seed: int, scale: float = 1, shift: float = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float32) * scale + shift
    return values.to(dtype).contiguous(memory_format=torch.channels_last)


def norm_of(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
    return norm


def in_float64(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None = None) -> Tensor:
    y = norm(x)
    return F.relu(y if residual is None else y + residual)


Operation = Callable[..., Tensor]


def results(operation: Operation, norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None) -> dict[str, Tensor]:
    """Everything that comes out of a forward and a backward pass."""
    x = x.detach().requires_grad_()
    residual = None if residual is None else residual.detach().requires_grad_()
    y = operation(norm, x, residual)
    y.backward(activations(tuple(x.shape), torch.bfloat16, seed=3).to(x.dtype))
    found = {"y": y.detach(), "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    found |= {"running_mean": norm.running_mean, "running_var": norm.running_var, "steps": norm.num_batches_tracked}
    if residual is not None:
        found["residual"] = residual.grad
    return {name: value for name, value in found.items() if value is not None}


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("shape", [(32, 16, 16, 16), (8, 32, 9, 7), (5, 64, 4, 4), (3, 112, 5, 7), (9, 16, 1, 1)])
def test_it_does_what_the_operations_do(shape: tuple[int, ...], with_residual: bool, dtype: torch.dtype) -> None:
    x = activations(shape, dtype, seed=1, scale=3, shift=1)
    residual = activations(shape, dtype, seed=2) if with_residual else None
    norm = norm_of(shape[1])
    exact = copy.deepcopy(norm).double()
    expected = results(in_float64, exact, x.double(), None if residual is None else residual.double())
    found = results(batch_norm_relu, norm, x, residual)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        largest = expected[name].double().abs().max()
        worst = (value.double() - expected[name]).abs().max() / largest
        assert worst <= ROUNDING[dtype], name
    assert found["y"].dtype == found["x"].dtype == dtype
    assert found["y"].is_contiguous(memory_format=torch.channels_last)


@needs_compiler
def test_a_small_spread_around_a_large_mean_is_not_lost() -> None:
    x = activations((64, 16, 8, 8), torch.float32, seed=1, scale=0.1, shift=1000)
    norm = norm_of(16)
    expected = in_float64(copy.deepcopy(norm).double(), x.double())
    found = batch_norm_relu(norm, x)
    assert (found - expected).abs().max() < 1e-2 * expected.abs().max()  # x itself has four digits of its spread


@needs_compiler
def test_one_value_far_away_spoils_no_variance() -> None:
    """At the first pixel of an image, which padding makes a special one, of channels that are nearly constant."""
    x = torch.full((32, 16, 32, 32), 0.3)
    x[0, :, 0, 0] = 1000
    norm = norm_of(16)
    batch_norm_relu(norm, x.contiguous(memory_format=torch.channels_last))
    expected = 0.9 + 0.1 * x.double().transpose(0, 1).flatten(1).var(1)
    assert norm.running_var is not None
    assert ((norm.running_var - expected).abs() < 1e-2 * expected).all()


@needs_compiler
@pytest.mark.parametrize("with_residual", [False, True])
def test_the_number_of_threads_changes_nothing(with_residual: bool) -> None:
    shape = (32, 32, 16, 16)
    x = activations(shape, torch.bfloat16, seed=1)
    residual = activations(shape, torch.bfloat16, seed=2) if with_residual else None
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(batch_norm_relu, norm_of(32), x, residual))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(value, other[name]) for name, value in found[0].items())


@needs_compiler
def test_what_is_no_number_stays_none() -> None:
    x = activations((4, 16, 8, 8), torch.bfloat16, seed=1)
    x[1, 2, 3, 4] = float("nan")
    found = results(batch_norm_relu, norm_of(16), x, None)
    broken = torch.arange(16) == 2
    assert found["y"][:, broken].isnan().all()
    assert found["y"][:, ~broken].isfinite().all()
    assert torch.equal(found["weight"].isnan(), broken)


@needs_compiler
def test_gradients_may_lie_in_any_order() -> None:
    x = activations((4, 16, 8, 8), torch.float32, seed=1).requires_grad_()
    (dense,) = torch.autograd.grad(batch_norm_relu(norm_of(16), x).sum(), x)
    (expanded,) = torch.autograd.grad(batch_norm_relu(norm_of(16), x), x, torch.ones(1).expand(4, 16, 8, 8))
    assert torch.equal(dense, expanded)


@needs_compiler
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_default_type_of_numbers_is_no_matter(default: torch.dtype) -> None:
    x, residual = (activations((4, 16, 8, 8), torch.float32, seed) for seed in (1, 2))
    expected = results(batch_norm_relu, norm_of(16), x, residual)
    norm = norm_of(16)
    torch.set_default_dtype(default)
    try:
        found = results(batch_norm_relu, norm, x, residual)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@needs_compiler
def test_what_is_kept_for_the_backward_pass_may_be_laid_out_anew_meanwhile() -> None:
    x, residual = (activations((4, 16, 8, 8), torch.float32, seed) for seed in (1, 2))
    expected = results(batch_norm_relu, norm_of(16), x, residual)
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: kept.clone().contiguous(), lambda kept: kept):
        found = results(batch_norm_relu, norm_of(16), x, residual)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_statistics_of_another_length_are_refused_as_pytorch_does() -> None:
    norm = norm_of(32)
    norm.running_mean = torch.zeros(16)
    with pytest.raises(RuntimeError, match="running_mean"):
        batch_norm_relu(norm, activations((4, 32, 8, 8), torch.float32, seed=1))


def test_tensors_without_memory_are_left_to_pytorch() -> None:
    with FakeTensorMode():
        network = CifarResNet(8, 3, 10)
        images = torch.empty(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        network(images).sum().backward()
        assert network.bn1.weight.grad.shape == (16,)


def _evaluated(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    return norm.eval()


def _watched(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.register_forward_hook(lambda *_: None)
    return norm


def _averaging(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.momentum = None
    return norm


def _spread_out(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.running_mean = torch.zeros(2 * norm.num_features)[::2]
    return norm


def _replaced(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.forward = lambda x: 2 * x  # type: ignore[method-assign]
    return norm


def _without_statistics(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(norm.num_features, track_running_stats=False)


def _without_weights(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(norm.num_features, affine=False)


class _Doubled(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def _of_another_class(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    return _Doubled(norm.num_features)


@pytest.mark.parametrize(
    "change",
    [
        _evaluated,
        _watched,
        _averaging,
        _spread_out,
        _replaced,
        _without_statistics,
        _without_weights,
        _of_another_class,
    ],
)
def test_any_other_module_is_called_as_it_is(change: Callable[[nn.BatchNorm2d], nn.BatchNorm2d]) -> None:
    x, residual = (activations((4, 16, 8, 8), torch.float32, seed) for seed in (1, 2))
    norm = change(norm_of(16))
    expected = in_float64(copy.deepcopy(norm), x, residual)
    assert torch.equal(batch_norm_relu(norm, x, residual), expected)


@pytest.mark.parametrize("case", ["channels", "layout", "double"])
def test_any_other_activations_have_pytorchs_operations(case: str) -> None:
    x = activations((4, 12 if case == "channels" else 16, 8, 8), torch.float32, seed=1)
    x = x.contiguous() if case == "layout" else x.double() if case == "double" else x
    norm = norm_of(x.shape[1]).to(x.dtype)
    expected = in_float64(copy.deepcopy(norm), x)
    assert torch.equal(batch_norm_relu(norm, x), expected)


def test_a_single_value_is_refused_as_pytorch_does() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        batch_norm_relu(norm_of(16), torch.ones(1, 16, 1, 1))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    batch_norm.problem.cache_clear()
    batch_norm._library.cache_clear()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    x, residual = (activations((4, 16, 8, 8), torch.float32, seed) for seed in (1, 2))
    norm = norm_of(16)
    expected = in_float64(copy.deepcopy(norm), x, residual)
    for _ in range(2):
        found = batch_norm_relu(copy.deepcopy(norm), x, residual)
        assert torch.equal(found, expected)
    assert batch_norm.implementation("cpu") == "torch"
    assert [record.getMessage() for record in caplog.records if "fused" in record.getMessage()] == [
        "BatchNorm and ReLU are not fused here, which makes training slower: "
        "there is no C++ compiler (no-such-compiler); name one in CXX"
    ]


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "load", lambda _: (_ for _ in ()).throw(native.Unavailable("not wanted")))
    batch_norm.problem.cache_clear()
    batch_norm._library.cache_clear()


def gradients_of_a_step(dtype: torch.dtype) -> tuple[float, Tensor]:
    """Loss and all gradients of a whole network, of its first batch."""
    torch.manual_seed(0)
    network = CifarResNet(8, 3, 10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = activations((4, 3, 8, 8), torch.float32, seed=17)
    labels = torch.arange(4)
    if dtype == torch.float64:
        network, images = network.double(), images.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = network(images)
    loss = F.cross_entropy(logits if dtype == torch.float64 else logits.float(), labels)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten().double() for p in network.parameters() if p.grad is not None])


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_of_a_network_is_exact_to_rounding(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to float64, loss and gradient err by a unit roundoff or two for each of the operations in a row.

    A forward and a backward pass through ResNet-8 are 2 * (9 convolutions and linear layers + 7 BatchNorms) = 32
    operations in a row. Each rounds what it reads and what it writes, and passes on the error that came in, which
    BatchNorm keeps from growing. In float32 that holds where no ReLU is so near its kink that it could flip.
    """
    roundoff = {torch.float32: 2**-24, torch.bfloat16: 2**-8}[dtype]
    nearest: list[float] = []

    def relu(x: Tensor, inplace: bool = False) -> Tensor:
        nearest.append(x.detach().abs().min().item())
        return x.clamp(min=0)

    with monkeypatch.context() as watched:
        watched.setattr(batch_norm.F, "relu", relu)
        exact_loss, exact = gradients_of_a_step(torch.float64)
    assert min(nearest) > 10 * 2 * 32 * 2**-24, "choose another batch"
    loss, fused = gradients_of_a_step(dtype)
    with monkeypatch.context() as without:
        without_library(without)
        separate = gradients_of_a_step(dtype)[1]
    assert not torch.equal(fused, separate)  # both were really used
    bound = 2 * 32 * roundoff
    assert abs(loss - exact_loss) <= bound * exact_loss
    assert (fused - exact).norm() <= bound * exact.norm()


@needs_compiler
def test_a_network_learns_with_the_compiled_operation() -> None:
    torch.manual_seed(0)
    network = CifarResNet(8, 3, 10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    images, labels = activations((16, 3, 8, 8), torch.float32, seed=0), torch.arange(16) % 10
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
