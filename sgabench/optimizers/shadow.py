"""The step that an optimizer would take on unsampled gradients."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Shadow:
    """An optimizer's state on unsampled gradients, beside the one on sampled gradients.

    It steps from the present weights, on copies of them, with the present options of the groups; its moments are those
    of the whole gradient.

    Args:
        base: the optimizer; the shadow begins with its state.
    """

    def __init__(self, base: Optimizer) -> None:
        self._base = base
        self._own = copy.deepcopy(base)

    @torch.no_grad()
    def step_norm(self) -> Tensor:
        """Step on the gradients that the parameters have; the Euclidean norm of this step, float64 ()."""
        moved = []
        for group in self._base.param_groups[len(self._own.param_groups) :]:
            self._own.param_groups.append({**group, "params": copy.deepcopy(group["params"])})
        for own, group in zip(self._own.param_groups, self._base.param_groups, strict=True):
            own.update({name: value for name, value in group.items() if name != "params"})
            for shadow, parameter in zip(own["params"], group["params"], strict=True):
                shadow.copy_(parameter)
                shadow.grad = parameter.grad
                if parameter.grad is not None:
                    moved.append((shadow, parameter))
        self._own.step()
        for shadow, _ in moved:
            shadow.grad = None
        return norm([shadow - parameter for shadow, parameter in moved])

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer of the copies."""
        return self._own.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where a state dict was taken, bit for bit."""
        self._own.load_state_dict(state)
        for parameter, kept in self._own.state.items():
            for name, value in kept.items():  # files do not keep strides, on which kernels rely
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all elements together: float64 (), on the device of the first."""
    if not tensors:
        return torch.zeros((), dtype=torch.float64)
    norms = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors]
    total: Tensor = torch.linalg.vector_norm(torch.stack([one.to(norms[0].device) for one in norms]))
    return total


def rescale_(moved: Sequence[tuple[Tensor, Tensor]], length: Tensor) -> None:
    """Rescale a step to a length; one of length zero stays.

    Args:
        moved: each parameter after the step, changed in place, and its values before.
        length: of the step over all of them together.
    """
    present = norm([parameter - before for parameter, before in moved])
    factor = torch.where(present > 0, length / present, torch.ones_like(present))
    for parameter, before in moved:
        exact = torch.promote_types(parameter.dtype, torch.float32)
        # lerp is exact at one: a step that has the length is not rounded again
        parameter.copy_(before.to(exact).lerp(parameter.to(exact), factor.to(parameter.device, exact)))
