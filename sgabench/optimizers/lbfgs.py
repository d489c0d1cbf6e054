"""L-BFGS for networks in channels-last format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import optim


class LBFGS(optim.LBFGS):
    """torch.optim.LBFGS, which takes gradients as flat views and so needs them row-major, unlike the weights."""

    def step(self, closure: Callable[[], float]) -> Any:  # type: ignore[override]
        """As torch's step, with gradients made contiguous."""

        def laid_out() -> float:
            loss = closure()
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad = parameter.grad.contiguous()
            return loss

        return super().step(laid_out)  # type: ignore[no-untyped-call]
