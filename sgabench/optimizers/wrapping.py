"""An optimizer around an optimizer: parameter groups and state are those of the one inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import StateDict

from sgabench.optimizers.declared import needs_closure


class Wrapper(Optimizer):
    """What optimizers around another one share.

    Parameter groups and state are the base's own, so that schedulers and state dicts work on either. A subclass
    defines `step` and may define `check_group`.

    Args:
        base: an optimizer over the parameters; from now on step the wrapper, never the base.
        own: options of the wrapper, each of which may differ between parameter groups.

    Raises:
        ValueError: as `check_group`.
    """

    def __init__(self, base: Optimizer, own: Mapping[str, Any]) -> None:
        self.base = base
        self._own = dict(own)
        for group in base.param_groups:
            self.check_group({**self._own, **group})
        adopted, base.param_groups = base.param_groups, []  # `add_param_group` puts them back
        super().__init__(adopted, {**base.defaults, **self._own})
        self._share()

    @property
    def needs_closure(self) -> bool:
        """Whether a step takes more than one pass over its batch."""
        return needs_closure(self.base)

    def check_group(self, group: dict[str, Any]) -> None:
        """Refuse a parameter group whose options mean nothing, by a ValueError."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base, whose options stand over the optimizer's own."""
        self.base.add_param_group({**self._own, **param_group})
        try:
            self.check_group(self.base.param_groups[-1])
        except ValueError:
            del self.base.param_groups[-1]
            raise

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Continue where a state dict was taken, bit for bit."""
        super().load_state_dict(state_dict)
        self.base.__setstate__({"state": self.state, "param_groups": self.param_groups})
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "base": self.base, "_own": self._own}

    def _share(self) -> None:
        self.param_groups = self.base.param_groups
        self.state = self.base.state
