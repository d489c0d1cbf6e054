"""3x3 convolutions: on the CPU in training as Winograd's minimal filtering in C++."""

from __future__ import annotations

import ctypes
import logging
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgabench.system import native
from sgabench.system.native import Unavailable

SOURCE = Path(__file__).with_name("winograd.cpp")
_LANES = 16  # channels that are computed at a time
_MOST = 128  # channels; with more, the transformed weight no longer fits into the cache
_GRAIN = 1 << 15  # fewer elements are not worth another thread

_logger = logging.getLogger("sgabench")


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution that keeps the size of the image, or divides it by the stride; without bias.

    In training on the CPU, of activations in float32 that lie channels last in memory, with stride 1, even height and
    width, and 16, 32, ... or 128 channels on either side, it is computed by Winograd's minimal filtering (Lavin and
    Gray 2015, arXiv 1509.09308), forward and backward. Its results are those of PyTorch to rounding, and the same with
    any number of threads. Everything else, and machines without a compiler, have the operations of PyTorch.

    Args:
        inputs: channels.
        outputs: channels.
        stride: of both axes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.training and bias is None and self._is_usual() and _fits(input, weight) and problem() is None:
            return _Winograd.apply(input, weight)  # type: ignore[no-any-return]
        output: Tensor = super()._conv_forward(input, weight, bias)
        return output

    def _is_usual(self) -> bool:
        usual = self.stride == self.padding == self.dilation == (1, 1) and self.groups == 1
        return usual and self.padding_mode == "zeros"


def implementation(device: str) -> str:
    """What trainings in float32 on a device have: ``winograd`` or ``torch``; the log says once what is missing."""
    return "torch" if device != "cpu" or problem() else "winograd"


@lru_cache(maxsize=1)
def problem() -> str | None:
    """Why there is no compiled operation on this machine; None if there is. The first call may compile it."""
    try:
        _library()
    except Unavailable as error:
        _logger.warning("Convolutions are PyTorch's here, which makes training slower: %s", error)
        return str(error)
    return None


def _fits(x: Tensor, weight: Tensor) -> bool:
    """Whether the compiled operation does all that PyTorch's would do, and faster."""
    return (
        torch.is_grad_enabled()
        and type(x) is Tensor  # of others, as tools put in its place, the memory may be somewhere else
        and type(weight) in (Tensor, nn.Parameter)
        and x.is_cpu
        and weight.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and x.dim() == 4
        and weight.shape == (weight.shape[0], x.shape[1], 3, 3)
        and all(channels % _LANES == 0 and 0 < channels <= _MOST for channels in weight.shape[:2])
        and x.numel() > 0
        and x.shape[2] % 2 == x.shape[3] % 2 == 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        shape = len(x), len(weight), *x.shape[2:]
        output = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        _call("forward", x, _channels_last(weight), output, None, None)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # this pass is to be differentiated, too
            return _derivatives(gradient, x, weight, ctx.needs_input_grad)
        x, weight, gradient = _channels_last(x), _channels_last(weight), _channels_last(gradient)
        of_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        of_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        if of_x is not None:
            _call("input_gradient", x, weight, of_x, gradient, None)
        if of_weight is not None:
            _call("weight_gradient", x, weight, None, gradient, of_weight)
        return of_x, of_weight


def _derivatives(
    gradient: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    ones, zeros = [1, 1], [0, 0]
    which = [*needed, False]
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, ones, ones, ones, False, zeros, 1, which
    )
    return of_x, of_weight


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _call(name: str, x: Tensor, weight: Tensor, *others: Tensor | None) -> None:
    """Call a function with the struct `Call` of the C++ file."""
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in (x, weight, *others)]
    images, inputs, height, width = x.shape
    threads = torch.get_num_threads() if x.numel() >= _GRAIN else 1
    call = struct.pack("=11q", *addresses, images, height, width, inputs, len(weight), threads)
    getattr(_library(), f"sgabench_convolution_{name}")(call)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    library = native.load(SOURCE, contract=True)
    for name in ("forward", "input_gradient", "weight_gradient"):
        function = getattr(library, f"sgabench_convolution_{name}")
        function.argtypes = [ctypes.c_char_p]
        function.restype = None
    return library
