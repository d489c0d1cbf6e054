"""Capture the passes of a step as a CUDA graph, where that gives the same results and is faster.

Small networks keep a GPU waiting for Python: a graph launches hundreds of kernels at once. Only the
passes are captured. The optimizer's step is launched normally, while the graph runs: so any optimizer can be used, and
learning rates, masks and step counts do not become constants of the graph.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sgabench.errors import describe
from sgabench.training.progress import synchronize
from sgabench.training.step import Draws, GradientStep, Replayed

# Steps: first enough for algorithms to be chosen, compiled and allocated, then enough for a median.
WARM_UP_STEPS = 10
TIMED_STEPS = 20
# With fewer steps, the first capture of a process, whose cost is not known yet, is not worth it.
WORTH_TRYING = 200
# Gradients may differ by rounding, because additions are reordered; relative to the largest value of their tensor.
TOLERANCE = 0.01

Capture = Callable[[GradientStep], Replayed]

_logger = logging.getLogger("sgabench")
_seconds_to_capture: list[float] = []  # of this process


class CudaGraph:
    """The passes of a step as a CUDA graph."""

    def __init__(self, step: GradientStep) -> None:
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # the state that autograd sets up per stream must not be part of the graph
            step.forget_gradients()
            step.passes()
        torch.cuda.current_stream().wait_stream(side)
        step.forget_gradients()  # so that the graph writes gradients rather than adding to them
        self._graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            step.passes()

    def replay(self) -> None:
        """Run the captured passes again."""
        self._graph.replay()


def capture_on(device: str) -> Capture | None:
    """The way to capture steps on a device; None: there is none."""
    return CudaGraph if device == "cuda" else None


class Captured:
    """A step whose passes are captured if that is found to be correct and faster.

    The first steps are executed normally, and timed. Then the passes are captured, and replayed for the same batch: if
    the gradients, totals or buffers differ, or if replayed steps turn out to be no faster, steps are not captured.
    None of this changes what a training computes, except for the rounding of sums.

    Args:
        step: the step.
        capture: the way to capture it; None: never.
        steps: number of steps of the whole training.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, step: GradientStep, capture: Capture | None, steps: int, device: str) -> None:
        self._step = step
        self._capture = capture
        self._left = steps
        self._device = device
        self._warm_up = WARM_UP_STEPS
        self._times: list[float] = []
        self._eager = 0.0

    def __call__(self, drawn: Draws) -> None:
        """Do a step, in the way that has been found to be best."""
        self._left -= 1
        if self._capture is None:
            self._step(drawn)
        elif self._warm_up:
            self._warm_up -= 1
            self._step(drawn)
        elif len(self._times) < TIMED_STEPS:
            self._times.append(self._timed(drawn))
        elif self._step.replayed is None:
            self._eager, self._times = statistics.median(self._times), []
            self._try(drawn, self._capture)
        else:
            self._judge(statistics.median(self._times))
            self._step(drawn)

    def _timed(self, drawn: Draws) -> float:
        synchronize(self._device)
        started = time.perf_counter()
        self._step(drawn)
        synchronize(self._device)
        return time.perf_counter() - started

    def _try(self, drawn: Draws, capture: Capture) -> None:
        """Do a step and capture it."""
        step, self._capture = self._step, None
        cost = min(_seconds_to_capture, default=WORTH_TRYING * self._eager)
        if self._left * self._eager < cost:
            message = "not captured: %d steps of %.2g s are left, and a capture takes %.2g s"
            _logger.info(message, self._left, self._eager, cost)
            step(drawn)
            return
        buffers = [*step.network.buffers(), step.totals]
        before = _copies(buffers)
        step(drawn)
        gradients = [p.grad if p.grad is None else p.grad.clone() for p in step.network.parameters()]
        expected = _copies([*_gradients(step), *buffers])
        random = torch.cuda.get_rng_state() if self._device == "cuda" else torch.get_rng_state()
        started = time.perf_counter()
        try:
            replayed = capture(step)
            _restore(buffers, before)
            replayed.replay()
            synchronize(self._device)
            right = _agree(expected, [*_gradients(step), *buffers])
            reason = "a replay gives different gradients"
        except RuntimeError as error:  # PyTorch's, for operations that a graph cannot contain
            right, reason = False, describe(error)
            _logger.debug("a capture failed", exc_info=True)
        _seconds_to_capture.append(time.perf_counter() - started)
        if right:
            step.replayed, self._capture = replayed, capture  # until `_judge`
            return
        _logger.warning("steps are not captured: %s", reason)
        for parameter, gradient in zip(step.network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        _restore(buffers, expected[-len(buffers) :])
        (torch.cuda.set_rng_state if self._device == "cuda" else torch.set_rng_state)(random)

    def _judge(self, captured: float) -> None:
        """Keep the graph if it is faster."""
        self._capture = None
        kept = captured < self._eager
        message = "%s: passes take %.3g s captured, %.3g s otherwise; capturing took %.2g s"
        _logger.info(message, "captured" if kept else "not captured", captured, self._eager, _seconds_to_capture[-1])
        if not kept:
            self._step.replayed = None
            self._step.forget_gradients()


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _gradients(step: GradientStep) -> list[Tensor]:
    return [parameter.grad for parameter in step.network.parameters() if parameter.grad is not None]


def _restore(tensors: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)


def _agree(expected: list[Tensor], found: list[Tensor]) -> bool:
    """Whether tensors are the same except for rounding."""
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in found]:
        return False
    worst = [
        (one.double() - other.double()).abs().max() <= TOLERANCE * one.double().abs().max()
        for one, other in zip(expected, found, strict=True)
        if one.numel()
    ]
    return bool(torch.stack(worst).all())
