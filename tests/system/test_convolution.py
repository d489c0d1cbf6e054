"""The compiled 3x3 convolution does what PyTorch's does, and is only used where it does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sgabench.system import convolution
from sgabench.system.convolution import Conv3x3

needs_compiler = pytest.mark.skipif(convolution.problem() is not None, reason="no C++ compiler")
SHAPES = [  # images, inputs, outputs, height, width
    (8, 16, 16, 16, 16),
    (3, 32, 32, 8, 6),
    (5, 64, 64, 4, 4),
    (2, 16, 48, 2, 2),
    (2, 48, 32, 6, 28),
    (1, 128, 128, 4, 4),
    (2, 32, 16, 40, 4),
    (2, 16, 16, 2, 40),
]


def filled(shape: tuple[int, ...], seed: int) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return values.contiguous(memory_format=torch.channels_last)


def layer_of(inputs: int, outputs: int, stride: int = 1) -> Conv3x3:
    layer = Conv3x3(inputs, outputs, stride).to(memory_format=torch.channels_last)
    layer.weight.data = filled(tuple(layer.weight.shape), seed=5)
    return layer


def results(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Everything that comes out of a forward and a backward pass."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    x = x.detach().requires_grad_()
    y = layer(x)
    of_x, of_weight = torch.autograd.grad(y, (x, weight), filled(tuple(y.shape), seed=3).to(y.dtype))
    return {"y": y.detach(), "x": of_x, "weight": of_weight}


def is_winograd(layer: nn.Module, x: Tensor) -> bool:
    return "Winograd" in type(layer(x.detach().requires_grad_()).grad_fn).__name__


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES)
def test_it_does_what_pytorchs_convolution_does(shape: tuple[int, ...]) -> None:
    images, inputs, outputs, *size = shape
    x = filled((images, inputs, *size), seed=1)
    layer = layer_of(inputs, outputs)
    assert is_winograd(layer, x)
    found = results(layer, x)
    expected = results(layer.double(), x.double())
    for name, value in found.items():
        worst = (value.double() - expected[name]).abs().max() / expected[name].abs().max()
        assert worst <= 3e-6, name
        assert value.is_contiguous(memory_format=torch.channels_last), name


@needs_compiler
def test_it_is_as_exact_as_pytorchs_convolution() -> None:
    x, layer = filled((32, 32, 16, 16), seed=1), layer_of(32, 32)
    exact = F.conv2d(x.double(), layer.weight.detach().double(), padding=1)
    direct = F.conv2d(x, layer.weight.detach(), padding=1)
    assert (layer(x).double() - exact).norm() <= 2 * (direct.double() - exact).norm()


@needs_compiler
def test_the_number_of_threads_changes_nothing() -> None:
    before = torch.get_num_threads()
    x, layer = filled((37, 16, 16, 16), seed=1), layer_of(16, 16)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(layer, x))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(value, other[name]) for name, value in found[0].items())


@needs_compiler
def test_an_image_does_not_depend_on_the_others() -> None:
    x, layer = filled((5, 16, 6, 6), seed=1), layer_of(16, 16)
    assert torch.equal(layer(x)[3:4], layer(x[3:4].contiguous(memory_format=torch.channels_last)))


@needs_compiler
def test_what_is_no_number_stays_none_where_it_is_seen() -> None:
    x, layer = filled((2, 16, 8, 8), seed=1), layer_of(16, 16)
    x[0, 3, 4, 4] = float("nan")
    broken = layer(x).isnan()
    assert broken[0, :, 3:6, 3:6].all()
    assert not broken[1].any()


@needs_compiler
def test_weights_and_gradients_may_lie_in_any_order() -> None:
    x = filled((4, 16, 8, 8), seed=1)
    layer, other = layer_of(16, 16), layer_of(16, 16)
    other.weight.data = other.weight.detach().contiguous()
    assert torch.equal(layer(x), other(x))
    x.requires_grad_()
    (dense,) = torch.autograd.grad(layer(x), x, torch.ones(4, 16, 8, 8))
    (expanded,) = torch.autograd.grad(layer(x), x, torch.ones(1).expand(4, 16, 8, 8))
    assert torch.equal(dense, expanded)


@needs_compiler
def test_what_needs_no_gradient_gets_none() -> None:
    x, layer = filled((4, 16, 8, 8), seed=1), layer_of(16, 16)
    both = results(layer, x)
    gradient = filled((4, 16, 8, 8), seed=3)
    (of_weight,) = torch.autograd.grad(layer(x), layer.weight, gradient)
    layer.weight.requires_grad_(False)
    (of_x,) = torch.autograd.grad(layer(x.requires_grad_()), x, gradient)
    assert torch.equal(of_weight, both["weight"])
    assert torch.equal(of_x, both["x"])


@needs_compiler
def test_second_derivatives() -> None:
    x, layer = filled((2, 16, 4, 4), seed=1), layer_of(16, 16)

    def penalty(layer: nn.Module, x: Tensor) -> Tensor:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), weight, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), weight)
        return second

    assert is_winograd(layer, x)
    found = penalty(layer, x)
    expected = penalty(layer.double(), x.double())
    assert (found.double() - expected).abs().max() <= 1e-5 * expected.abs().max()


@needs_compiler
def test_tensors_without_memory_are_left_to_pytorch() -> None:
    with FakeTensorMode():
        x = torch.empty(2, 16, 8, 8).contiguous(memory_format=torch.channels_last)
        assert Conv3x3(16, 32)(x).shape == (2, 32, 8, 8)


@needs_compiler
def test_autocast_has_its_own_precision() -> None:
    layer = layer_of(16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(filled((2, 16, 8, 8), seed=1)).dtype == torch.bfloat16


def _evaluated(layer: Conv3x3, x: Tensor) -> tuple[nn.Module, Tensor]:
    return layer.eval(), x


def _row_major(layer: Conv3x3, x: Tensor) -> tuple[nn.Module, Tensor]:
    return layer, x.contiguous()


def _odd(layer: Conv3x3, x: Tensor) -> tuple[nn.Module, Tensor]:
    return layer, filled((4, 16, 7, 8), seed=1)


def _strided(layer: Conv3x3, x: Tensor) -> tuple[nn.Module, Tensor]:
    return layer_of(16, 16, stride=2), x


def _pruned(layer: Conv3x3, x: Tensor) -> tuple[nn.Module, Tensor]:
    layer.weight = nn.Parameter(layer.weight.detach()[:15])
    return layer, x


def _wide(layer: Conv3x3, x: Tensor) -> tuple[nn.Module, Tensor]:
    return layer_of(16, 144), x


def _double(layer: Conv3x3, x: Tensor) -> tuple[nn.Module, Tensor]:
    return layer.double(), x.double()


def _circular(layer: Conv3x3, x: Tensor) -> tuple[nn.Module, Tensor]:
    layer.padding_mode = "circular"
    return layer, x


def _empty(layer: Conv3x3, x: Tensor) -> tuple[nn.Module, Tensor]:
    return layer, x[:0]


@pytest.mark.parametrize("change", [_evaluated, _row_major, _odd, _strided, _pruned, _wide, _double, _circular, _empty])
def test_everything_else_is_pytorchs(change: Callable[[Conv3x3, Tensor], tuple[nn.Module, Tensor]]) -> None:
    layer, x = change(layer_of(16, 16), filled((4, 16, 8, 8), seed=1))
    assert not is_winograd(layer, x)


def test_inputs_of_another_width_are_refused_as_pytorch_does() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        layer_of(16, 16)(filled((4, 32, 8, 8), seed=1))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    convolution.problem.cache_clear()
    convolution._library.cache_clear()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    x, layer = filled((4, 16, 8, 8), seed=1), layer_of(16, 16)
    for _ in range(2):
        assert torch.equal(layer(x), F.conv2d(x, layer.weight, padding=1))
    assert convolution.implementation("cpu") == "torch"
    assert [record.getMessage() for record in caplog.records if "onvolutions" in record.getMessage()] == [
        "Convolutions are PyTorch's here, which makes training slower: "
        "there is no C++ compiler (no-such-compiler); name one in CXX"
    ]
