"""What a network's state dict has beside tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Put tensors into a network, as of the version that its modules have.

    Files of tensors do not keep the versions of modules, and some modules take a state without one for an old one.

    Args:
        network: takes them.
        tensors: by their names in its state dict.
        strict: whether every tensor must be there.
    """
    state: OrderedDict[str, Tensor] = OrderedDict(tensors)
    state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    network.load_state_dict(state, strict=strict)
