"""BatchNorm, the sum of a residual, and ReLU as one operation: on the CPU in training as one piece of C++."""

from __future__ import annotations

import ctypes
import logging
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sgabench.system import native
from sgabench.system.native import Unavailable

SOURCE = Path(__file__).with_name("batch_norm.cpp")
_LANES = 16  # channels that are computed at a time
_GRAIN = 1 << 15  # fewer elements are not worth another thread

_logger = logging.getLogger("sgabench")


def batch_norm_relu(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """ReLU of the normalized input, a residual added before it (He et al. 2015, arXiv 1512.03385, figure 2).

    In training on the CPU, of activations in bf16 or float32 that lie channels last in memory, it is one compiled
    operation, which reads and writes them half as often as the operations that it stands for. Its results are
    theirs to rounding (it rounds once where bf16 is rounded three times), and the same with any number of threads.
    Everything else, and machines without a compiler, have the operations of PyTorch.

    Args:
        norm: its statistics are updated in training, as PyTorch does it (Ioffe and Szegedy 2015, arXiv 1502.03167).
        x: (N, C, H, W).
        residual: the same shape.

    Returns:
        (N, C, H, W); memory of its own.
    """
    if _fits(norm, x, residual) and problem() is None:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        statistics = norm.running_mean, norm.running_var
        return _Fused.apply(x, residual, norm.weight, norm.bias, *statistics, norm.eps, norm.momentum)  # type: ignore[no-any-return]
    y = norm(x)
    if residual is not None:
        y += residual
    return F.relu(y, inplace=True)


def implementation(device: str) -> str:
    """What trainings on a device have: ``compiled`` or ``torch``; the log says once what is missing."""
    return "torch" if device != "cpu" or problem() else "compiled"


@lru_cache(maxsize=1)
def problem() -> str | None:
    """Why there is no compiled operation on this machine; None if there is. The first call may compile it."""
    try:
        _library()
    except Unavailable as error:
        _logger.warning("BatchNorm and ReLU are not fused here, which makes training slower: %s", error)
        return str(error)
    return None


def _fits(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None) -> bool:
    """Whether the compiled operation does all that the module would do."""
    return (
        norm.training
        and type(x) is Tensor  # of others, as tools put in its place, the memory may be somewhere else
        and type(norm) is nn.BatchNorm2d
        and "forward" not in vars(norm)
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and not (norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks)
        and x.is_cpu
        and x.dtype in (torch.bfloat16, torch.float32)
        and x.dim() == 4
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.shape[1] == norm.num_features
        and x.shape[1] % _LANES == 0
        and x.numel() > x.shape[1]  # of a single value there is no variance; PyTorch says so
        and all(_is_vector(of, norm.num_features) for of in _vectors(norm))
        and (residual is None or _is_alike(residual, x))
        and not torch.compiler.is_compiling()
    )


def _vectors(norm: nn.BatchNorm2d) -> tuple[Tensor, ...]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.weight, norm.bias, norm.running_mean, norm.running_var


def _is_vector(of: Tensor, length: int) -> bool:
    of_cpu = isinstance(of, Tensor) and of.is_cpu
    return of_cpu and of.dtype == torch.float32 and of.shape == (length,) and of.is_contiguous()


def _is_alike(residual: Tensor, x: Tensor) -> bool:
    same = residual.shape == x.shape and residual.dtype == x.dtype and residual.device == x.device
    return type(residual) is Tensor and same


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        eps: float,
        momentum: float,
    ) -> Tensor:
        residual = None if residual is None else _channels_last(residual)
        output = torch.empty_like(x)
        mean, scale = torch.empty_like(weight), torch.empty_like(weight)
        tensors = x, residual, output, None, None, None, weight, bias, mean, scale, running_mean, running_var
        _call(_library().sgabench_batch_norm_forward, x, (*tensors, None, None), eps, momentum)
        ctx.has_residual = residual is not None
        ctx.save_for_backward(x, output if ctx.has_residual else None, weight, bias, mean, scale)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, output, weight, bias, mean, scale = ctx.saved_tensors
        x, gradient = _channels_last(x), _channels_last(gradient)  # who keeps tensors elsewhere may lay them out anew
        output = None if output is None else _channels_last(output)
        of_x = torch.empty_like(x)
        of_residual = torch.empty_like(x) if ctx.has_residual else None
        of_weight, of_bias = torch.empty_like(weight), torch.empty_like(bias)
        tensors = x, None, output, gradient, of_x, of_residual, weight, bias, mean, scale, None, None
        _call(_library().sgabench_batch_norm_backward, x, (*tensors, of_weight, of_bias), 0.0, 0.0)
        return of_x, of_residual, of_weight, of_bias, None, None, None, None


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _call(
    function: Callable[[bytes], None], x: Tensor, tensors: tuple[Tensor | None, ...], eps: float, momentum: float
) -> None:
    """Call it with the struct `Call` of the C++ file."""
    channels = x.shape[1]
    rows = x.numel() // channels
    threads = torch.get_num_threads() if x.numel() >= _GRAIN else 1
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    function(struct.pack("=18q2d", *addresses, rows, channels, x.dtype == torch.bfloat16, threads, eps, momentum))


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    library = native.load(SOURCE)
    for function in (library.sgabench_batch_norm_forward, library.sgabench_batch_norm_backward):
        function.argtypes = [ctypes.c_char_p]
        function.restype = None
    return library
