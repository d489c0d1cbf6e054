"""Optimizers that are known to leave prunable networks: positive controls.

Both shrink weights by soft thresholding, sign(w) max(|w| - τ, 0), which sets small weights to exactly zero. They do so
to weights of two or more dimensions only: convolutions and linear layers, not biases and normalization.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sgabench.optimizers.wrapping import Wrapper


def soft_threshold_(weights: Tensor, threshold: float) -> None:
    """Replace w by sign(w) max(|w| - τ, 0) in place; weights of any shape, a threshold τ of 0 or more."""
    weights.copy_(torch.nn.functional.softshrink(weights, threshold))


class Proximal(Wrapper):
    """A proximal step of the L1 norm around an optimizer: after each step, soft thresholding by lr times λ.

    Around torch.optim.SGD without momentum this is proximal gradient descent (Parikh and Boyd, "Proximal algorithms",
    2014, section 4.2; the operator: section 6.5.2). The threshold follows the learning rate's schedule.

    Args:
        base: an optimizer over the parameters; from now on step the wrapper, never the base.
        l1: λ, 0 or more; may differ between parameter groups.

    Raises:
        ValueError: λ is negative or not finite.
    """

    def __init__(self, base: Optimizer, *, l1: float = 1e-3) -> None:
        super().__init__(base, {"l1": l1})

    def check_group(self, group: dict[str, Any]) -> None:
        """Refuse a negative λ."""
        if not 0 <= group["l1"] < float("inf"):
            raise ValueError(f"Invalid l1: {group['l1']}; it must be 0 or more")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Let the base step, then shrink the weights that have a gradient."""
        loss: float | None = self.base.step(closure)
        for group in self.param_groups:
            threshold = float(group["lr"]) * group["l1"]
            for parameter in group["params"]:
                if threshold > 0 and parameter.grad is not None and parameter.ndim >= 2:
                    soft_threshold_(parameter, threshold)
        return loss


class GRDA(Optimizer):
    """Generalized regularized dual averaging, for directional pruning (Chao et al., NeurIPS 2020, arXiv 2006.09358).

    With a sum of gradient steps from the initial weights, v = w₀ - Σ γ g, the weights after step n are v after soft
    thresholding by c γ^(1/2 + μ) n^μ (equations 1 and 2). Where the learning rate γ changes, the threshold is the sum
    of its increments, each at its step's γ, as in the authors' code.

    Args:
        params: parameters, or groups of them.
        lr: learning rate γ.
        c: how sparse from the beginning, 0 or more; 0 is SGD without momentum.
        mu: how sparse in the long run, μ in (0.5, 1) in the paper.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, params: Any, lr: float = 0.1, c: float = 0.005, mu: float = 0.7) -> None:
        if not lr > 0:
            raise ValueError(f"Invalid lr: {lr}; it must be greater than 0")
        if not 0 <= c < float("inf"):
            raise ValueError(f"Invalid c: {c}; it must be 0 or more")
        if not 0 < mu < 1:
            raise ValueError(f"Invalid mu: {mu}; it must be between 0 and 1")
        super().__init__(params, {"lr": lr, "c": c, "mu": mu})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Add a gradient step to the sum, and take the weights from it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, float(group["lr"]), group["c"], group["mu"])
        return loss

    def _update(self, parameter: Tensor, lr: float, c: float, mu: float) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=0, threshold=0.0, sum=parameter.detach().clone(memory_format=torch.preserve_format))
        state["step"] += 1
        step = state["step"]
        state["threshold"] += c * lr ** (0.5 + mu) * (step**mu - (step - 1) ** mu)
        state["sum"].add_(parameter.grad, alpha=-lr)
        parameter.copy_(state["sum"])
        if parameter.ndim >= 2 and state["threshold"] > 0:
            soft_threshold_(parameter, state["threshold"])
