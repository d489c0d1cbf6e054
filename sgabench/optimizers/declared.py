"""What an optimizer declares to the training loop."""

from __future__ import annotations

import inspect
from typing import Literal

from torch.optim import Optimizer


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether its steps need more passes over the same batch.

    It declares so with an attribute ``needs_closure``, or a `step` that cannot be called without a closure, such as
    that of torch.optim.LBFGS.
    """
    declared = getattr(optimizer, "needs_closure", None)
    if declared is not None:
        return bool(declared)
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def has_modes(optimizer: Optimizer) -> bool:
    """Whether it trains at other weights than those to be evaluated: it has `train` and `eval`."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


def switch(optimizer: Optimizer, mode: Literal["train", "eval"]) -> None:
    """Put the weights for training, or those for evaluation, into the parameters, if it `has_modes`."""
    if has_modes(optimizer):
        getattr(optimizer, mode)()
