"""Tensors are loaded as of the version that the modules have."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sgabench.models.state import load_tensors


class _Renamed(nn.Linear):
    """Takes a state without a version for one of before it was named so."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: dict[str, Any], *rest: Any) -> None:
        if metadata.get("version") != 2:
            raise ValueError("an old state")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_modules_get_their_version() -> None:
    network = nn.Sequential(_Renamed(3, 2))
    tensors = {"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2)}
    load_tensors(network, tensors)
    assert network(torch.ones(1, 3)).tolist() == [[3.0, 3.0]]
    load_tensors(network, {"0.bias": torch.ones(2)}, strict=False)
    assert network(torch.ones(1, 3)).tolist() == [[4.0, 4.0]]
