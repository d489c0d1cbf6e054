"""Parameters and gradients that StochGradAdam is trained with, and its implementations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sgabench.optimizers import mask
from sgabench.optimizers.implementations import problem

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
