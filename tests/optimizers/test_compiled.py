"""The compiled step: the formula in float32, operation by operation, whatever the threads and the layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sgabench.optimizers import compiled, mask
from sgabench.optimizers.stoch_grad_adam import StochGradAdam

pytestmark = pytest.mark.skipif(compiled.problem() is not None, reason=str(compiled.problem()))

COUNT = 150_000


def gradient(step: int) -> Tensor:
    return torch.randn(COUNT, generator=torch.Generator().manual_seed(step))


def trained(threads: int, **options: Any) -> np.ndarray:
    before = torch.get_num_threads()
    parameter = nn.Parameter(gradient(-1))
    optimizer = StochGradAdam([parameter], implementation="compiled", **options)
    try:
        torch.set_num_threads(threads)
        for step in range(10):
            parameter.grad = gradient(step)
            optimizer.step()
    finally:
        torch.set_num_threads(before)
    return parameter.detach().numpy()


def formula(lr: float, betas: tuple[float, float], decay: float, rate: float) -> np.ndarray:
    """In NumPy's float32, with every operation rounded."""
    f = np.float32
    theta = gradient(-1).numpy().copy()
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, 11):
        factor = mask.bernoulli(0, t, 0, COUNT, rate).numpy() * (f(1) / f(rate))
        phi = factor * (gradient(t - 1).numpy() + f(decay) * theta)
        weight = f(1 - betas[0])
        m = m + weight * (phi - m) if weight < 0.5 else phi - (phi - m) * (1 - weight)
        v = v * f(betas[1]) + f(1 - betas[1]) * phi * phi
        root = f(np.sqrt(1 - betas[1] ** t))
        theta = theta - f(lr / (1 - betas[0] ** t)) * m / (np.sqrt(v) / root + f(1e-8))
    return theta


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.3, 0.5)])
def test_it_is_the_formula_bit_for_bit_with_any_number_of_threads(betas: tuple[float, float]) -> None:
    expected = formula(0.01, betas, 0.1, 0.7)
    for threads in (1, 2, 3):
        got = trained(threads, lr=0.01, betas=betas, weight_decay=0.1, sampling_rate=0.7, rescale=True)
        np.testing.assert_array_equal(got, expected)


def test_the_layout_in_memory_changes_no_bit() -> None:
    images = [(8, 64, 9, 7), (3, 1500, 3, 3), (16, 3, 3, 3), (4, 5, 6, 7, 8)]
    results = []
    for last in (False, True):
        generator = torch.Generator().manual_seed(1)
        of = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in images]
        for parameter in of if last else ():
            memory = torch.channels_last if parameter.dim() == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=memory)
        optimizer = StochGradAdam(of, lr=0.01, weight_decay=0.1, implementation="compiled")
        for _ in range(5):
            for parameter in of:
                parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=generator))
            optimizer.step()
        results.append([parameter.detach() for parameter in of])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_a_rate_that_rounds_to_one_keeps_everything() -> None:
    rate = 1 - 2.0**-40
    np.testing.assert_array_equal(trained(1, sampling_rate=rate), trained(1, sampling_rate=1.0))


def test_values_that_are_not_finite_stay_visible() -> None:
    parameter = nn.Parameter(torch.zeros(64))
    parameter.grad = torch.full((64,), float("inf"))
    StochGradAdam([parameter], implementation="compiled").step()
    assert not bool(parameter.isfinite().any())
