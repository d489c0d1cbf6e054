"""State dicts of networks with versions of modules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load tensors into a network, as being of the version of its modules.

    Files of tensors do not keep the versions of modules, and some modules take a state without version for an old one.

    Args:
        network: changed in place.
        tensors: by name in its state dict.
        strict: whether every tensor must be present.
    """
    state: OrderedDict[str, Tensor] = OrderedDict(tensors)
    state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    network.load_state_dict(state, strict=strict)
