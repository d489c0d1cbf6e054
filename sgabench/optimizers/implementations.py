"""The implementation of StochGradAdam's step: chosen by machine and settings, never by a timing."""

from __future__ import annotations

import importlib
import logging
import os
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from sgabench.errors import InputError, foreign
from sgabench.optimizers import compiled

Implementation = Literal["auto", "single", "foreach", "compiled", "triton"]
VARIABLE = "SGABENCH_IMPLEMENTATION"

_logger = logging.getLogger("sgabench")


def check(requested: str | None) -> str:
    """Resolve the request: the argument, else the environment variable, else ``auto``.

    Raises:
        InputError: an unknown name, or an implementation that this machine does not have.
    """
    source = "implementation" if requested is not None else VARIABLE
    name = requested if requested is not None else os.environ.get(VARIABLE) or "auto"
    if name not in get_args(Implementation):
        raise InputError(f"{source}: {name!r} is not one of {', '.join(get_args(Implementation))}")
    missing = problem(name)
    if missing:
        raise InputError(f"{source}: {name!r} is not available here: {missing}")
    return name


def problem(name: str) -> str | None:
    """Why an implementation cannot run on this machine; None if it can."""
    if name == "compiled":
        return compiled.problem()
    return _triton_problem() if name == "triton" else None


def on_device(device: str) -> str:
    """The implementation for float32 parameters on a device, unless an optimizer has another one set.

    Args:
        device: its type, e.g. ``cpu``.

    Raises:
        InputError: see `check`.
    """
    requested = check(None)
    return automatic(device) if requested == "auto" else requested


@lru_cache(maxsize=8)
def automatic(device: str) -> str:
    """The fastest implementation that this machine has for a type of device; the log says it once."""
    best = {"cpu": "compiled", "cuda": "triton"}.get(device, "foreach")
    missing = problem(best)
    if missing:
        _logger.warning("StochGradAdam's step is not fused here, which makes it several times slower: %s", missing)
        best = "foreach"
    _logger.info("StochGradAdam's step on %s: %s", device, best)
    return best


def suited(name: str, parameter: Tensor) -> str:
    """The implementation for a parameter: the requested one, or ``single``, which supports all."""
    if name == "auto":
        name = automatic(parameter.device.type)
    if name == "compiled":
        accepted = compiled.takes(parameter)
    elif name == "triton":
        accepted = importlib.import_module("sgabench.optimizers.triton_step").takes(parameter)
    else:
        accepted = moment_dtype(parameter) == parameter.dtype
    return name if accepted else "single"


def moment_dtype(parameter: Tensor) -> torch.dtype:
    """Moments are float32 for types of lower precision, else of the parameter's type."""
    return torch.promote_types(parameter.dtype, torch.float32)


@lru_cache(maxsize=1)
def _triton_problem() -> str | None:
    try:
        with foreign("Triton cannot be used (", ")"):
            module = importlib.import_module("sgabench.optimizers.triton_step")
    except InputError as error:
        return str(error)
    if torch.cuda.is_available() or module.INTERPRETED:
        return None
    return "there is no CUDA device"
