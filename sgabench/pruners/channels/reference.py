"""The reference output of a network without some channels: that of the dense one with them set to zero."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sgabench.models.layers import evaluating
from sgabench.models.operations import unfused
from sgabench.pruners.channels.norms import OVER_CHANNELS
from sgabench.pruners.channels.structure import Structure, Vector


@torch.no_grad()
def zero(network: nn.Module, structure: Structure, kept: np.ndarray) -> None:
    """Set channels and all weights that read them to zero, in place."""
    states = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for (name, dim), vector in structure.sliced.items():
        gone = np.flatnonzero(~kept[vector])
        if len(gone):
            states[name].index_fill_(dim, torch.from_numpy(gone).to(states[name].device), 0.0)


def masked_logits(network: nn.Module, structure: Structure, kept: np.ndarray, images: Tensor) -> Tensor:
    """Logits of a network with some channels set to zero.

    Normalizations over channels take their statistics only from those that are kept; otherwise no channel that is
    normalized together with others could be removed exactly.
    """
    with evaluating(network), unfused(), _KeptNorms(structure, kept), _without(network, structure, kept):
        logits: Tensor = network(images)
    return logits


@contextmanager
def _without(network: nn.Module, structure: Structure, kept: np.ndarray) -> Iterator[None]:
    hooks = []
    for name, (_, outputs) in structure.wholes.items():
        mask = torch.from_numpy(kept[outputs])

        def hook(module: nn.Module, args: Any, output: Tensor, mask: Tensor = mask) -> Tensor:
            return output * mask.to(output).view(1, -1, *[1] * (output.dim() - 2))

        hooks.append(network.get_submodule(name).register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


class _KeptNorms(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, structure: Structure, kept: np.ndarray) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._norms = iter(structure.norms)
        self._kept = kept

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if name not in OVER_CHANNELS:
            return func(*args, **kwargs)
        vector = next(self._norms)
        if vector is None or self._kept[vector].all():
            return func(*args, **kwargs)
        return (_over_groups if name == "native_group_norm" else _over_last)(func, args, vector, self._kept)


def _over_last(func: Any, args: tuple[Any, ...], vector: Vector, kept: np.ndarray) -> tuple[Any, ...]:
    given, shape = args[:2]
    mask = torch.from_numpy(kept[vector]).expand(tuple(shape)).to(given.device)
    row = given.reshape(*given.shape[: -len(shape)], -1)[..., mask.reshape(-1)]
    weights = [None if value is None else value.reshape(-1)[mask.reshape(-1)] for value in args[2:4]]
    normal = (
        func(row, [row.shape[-1]], *weights, *args[4:])
        if len(args) > 4
        else func(row, [row.shape[-1]], *weights[:1], *args[3:])
    )
    out = torch.zeros_like(given).reshape(*given.shape[: -len(shape)], -1)
    out[..., mask.reshape(-1)] = normal[0]
    return (out.view(given.shape), *normal[1:])


def _over_groups(func: Any, args: tuple[Any, ...], vector: Vector, kept: np.ndarray) -> tuple[Any, ...]:
    given, weight, bias, batch, channels, pixels, groups, eps = args
    mask = torch.from_numpy(kept[vector]).to(given.device)
    left = int(mask.sum())
    groups = left if groups == channels else groups
    weights = [None if value is None else value[mask] for value in (weight, bias)]
    normal = func(given[:, mask].contiguous(), *weights, batch, left, pixels, groups, eps)
    out = torch.zeros_like(given)
    out[:, mask] = normal[0]
    return (out, *normal[1:])
