"""StochGradAdam's step on the CPU as one pass in C++, over all parameters of a group."""

from __future__ import annotations

import ctypes
import struct
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from sgabench.optimizers import mask
from sgabench.optimizers.sampling import Group, Placed
from sgabench.optimizers.updates import State, laid_out_as, memory_layout
from sgabench.system import native
from sgabench.system.native import Unavailable

SOURCE = Path(__file__).with_name("stoch_grad_adam.cpp")


@lru_cache(maxsize=1)
def problem() -> str | None:
    """Why there is no compiled step on this machine; None if there is. The first call may compile it."""
    try:
        _library()
    except Unavailable as error:
        return str(error)
    return None


def takes(parameter: Tensor) -> bool:
    """Whether the compiled step can update it: dense float32 on the CPU."""
    return parameter.dtype == torch.float32 and parameter.device.type == "cpu" and memory_layout(parameter) is not None


def step(items: list[Placed], states: list[State]) -> None:
    """Update parameters of one group that `takes` accepts.

    Raises:
        Unavailable: see `problem`.
    """
    group = items[0].group
    below = mask.threshold(group["sampling_rate"])
    rows: list[int] = []
    alive = []  # copies of gradients must stay alive until after the call
    for item, state in zip(items, states, strict=True):
        layout = memory_layout(item.parameter)
        assert layout is not None
        gradient = laid_out_as(item.parameter, item.gradient)
        alive.append(gradient)
        tensors = (item.parameter, gradient, state["exp_avg"], state["exp_avg_sq"], state["step"])
        rows += [tensor.data_ptr() for tensor in tensors]
        rows += [item.parameter.numel(), item.position, *layout, item.sampled and below < 2**31, 0]
    _library().sgabench_step((ctypes.c_int64 * len(rows))(*rows), len(items), _options(group, below))


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    library = native.load(SOURCE)
    library.sgabench_step.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p]
    library.sgabench_step.restype = None
    return library


def _options(group: Group, below: int) -> bytes:
    """The struct `Options` of the C++ file."""
    return struct.pack(
        "=6d8q",
        float(group["lr"]),
        *group["betas"],
        group["eps"],
        group["weight_decay"],
        group["sampling_rate"] if group["rescale"] else 1.0,
        *mask.key(group["seed"], group["sampling_step"]),
        below,
        group["decoupled_weight_decay"],
        group["mask_weight_decay"],
        group["bias_correction"],
        group["maximize"],
        torch.get_num_threads(),
    )
