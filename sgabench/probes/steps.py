"""The length of the steps of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class StepNorms:
    """The mean norm of the update per epoch: the whole change of the weights by a step, including decay.

    A single Euclidean norm over all trained parameters of two or more dimensions. It keeps a copy of them.

    Args:
        network: being trained.
    """

    def __init__(self, network: nn.Module) -> None:
        self._weights: list[Tensor] = [p for p in network.parameters() if p.requires_grad and p.ndim >= 2]
        self._before = [torch.empty_like(weight) for weight in self._weights]
        self._totals: list[Tensor] = []  # per epoch; on the device, so that no step waits for it
        self._steps: list[int] = []

    @torch.no_grad()
    def before_step(self) -> None:
        """Remember the weights."""
        torch._foreach_copy_(self._before, self._weights)

    @torch.no_grad()
    def after_step(self, epoch: int) -> None:
        """Add the norm of the change to the epoch's total."""
        while len(self._totals) <= epoch:
            self._totals.append(torch.zeros((), dtype=torch.float64, device=self._weights[0].device))
            self._steps.append(0)
        torch._foreach_sub_(self._before, self._weights)
        self._totals[epoch] += torch.stack(torch._foreach_norm(self._before)).double().norm()
        self._steps[epoch] += 1

    def result(self) -> dict[str, Any]:
        """``weights``: their number; ``step_norm``: the mean of each epoch."""
        means = [float(total) / steps for total, steps in zip(self._totals, self._steps, strict=True)]
        return {"weights": sum(weight.numel() for weight in self._weights), "step_norm": means}

    def state_dict(self) -> dict[str, Any]:
        """The state for a snapshot."""
        return {"totals": self._totals, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot."""
        device = self._weights[0].device
        self._totals, self._steps = [total.to(device) for total in state["totals"]], list(state["steps"])
