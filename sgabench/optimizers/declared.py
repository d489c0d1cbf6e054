"""What an optimizer says of itself to the loop that trains with it."""

from __future__ import annotations

import inspect
from typing import Literal

from torch.optim import Optimizer


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether its steps need more passes over the same batch.

    An optimizer says so by an attribute ``needs_closure``, or by a `step` that cannot be called without a closure, as
    torch.optim.LBFGS does.
    """
    declared = getattr(optimizer, "needs_closure", None)
    if declared is not None:
        return bool(declared)
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def has_modes(optimizer: Optimizer) -> bool:
    """Whether the weights that it trains at are others than those that are good: it has `train` and `eval`."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


def switch(optimizer: Optimizer, mode: Literal["train", "eval"]) -> None:
    """Put the weights that are trained at, or those that are good, into the parameters, if it `has_modes`."""
    if has_modes(optimizer):
        getattr(optimizer, mode)()
