"""Multiply-adds of any network, counted while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sgabench.models.layers import evaluating


def count_macs(network: nn.Module, images: Tensor) -> tuple[int, int]:
    """Multiply-adds for the images together: all, and those that touch no zero weight.

    Args:
        network: left as it was.
        images: (N, C, H, W), on the network's device.
    """
    operations = count_operations(network, images)
    return operations.total, operations.nonzero({name: count_nonzero(p) for name, p in network.named_parameters()})


@dataclass(frozen=True)
class Operations:
    """Multiply-adds of a network, operator by operator.

    Attributes:
        operators: multiply-adds of each, and the weights in it: the name of a parameter, or of a part
            of one how many numbers it has and how many of them are not zero.
        sizes: how many numbers each parameter has.
    """

    operators: tuple[tuple[int, tuple[str | tuple[int, int], ...]], ...]
    sizes: Mapping[str, int]

    @property
    def total(self) -> int:
        """All multiply-adds."""
        return sum(macs for macs, _ in self.operators)

    @property
    def follow_from_parameters(self) -> bool:
        """Whether they can be told of other values, too, by counting the zeros of whole parameters."""
        return all(isinstance(weight, str) for _, weights in self.operators for weight in weights)

    def nonzero(self, parameters: Mapping[str, int]) -> int:
        """Multiply-adds that touch no zero weight, if so many numbers of each parameter are not zero."""
        total = 0
        for macs, weights in self.operators:
            for weight in weights:
                size, nonzero = (self.sizes[weight], parameters[weight]) if isinstance(weight, str) else weight
                # each weight takes part in equally many multiply-adds, so that this stays exact
                macs = macs // size * nonzero
            total += macs
        return total


def count_operations(network: nn.Module, images: Tensor) -> Operations:
    """Run a network and see what it multiplies.

    Args:
        network: left as it was.
        images: (N, C, H, W), on the network's device.
    """
    with evaluating(network), unfused(), _MultiplyAdds(network) as counter:
        network(images)
    return Operations(tuple(counter.operators), {name: p.numel() for name, p in network.named_parameters()})


@contextmanager
def unfused() -> Iterator[None]:
    """Attention as plain matrix products: torch has no formula for its fused kernels on the CPU."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


class _MultiplyAdds(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-adds operator by operator, with the formulas of torch's FlopCounterMode.

    FlopCounterMode itself sees shapes; here the values matter. Weights are recognized by their
    memory, so that it does not matter which module multiplies by them, or by a slice of them.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[tuple[int, tuple[str | tuple[int, int], ...]]] = []
        self._storages = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        self._names = {(p.data_ptr(), p.numel()): name for name, p in network.named_parameters()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            macs = formula(*args, **(kwargs or {}), out_val=result) // 2
            self.operators.append((macs, tuple(map(self._identify, filter(self._is_weight, args)))))
        return result

    def _is_weight(self, value: object) -> bool:
        # a bias has one dimension, and is added
        return isinstance(value, Tensor) and value.dim() > 1 and value.untyped_storage().data_ptr() in self._storages

    def _identify(self, weight: Tensor) -> str | tuple[int, int]:
        name = self._names.get((weight.data_ptr(), weight.numel()))
        return (weight.numel(), count_nonzero(weight)) if name is None else name


def count_nonzero(tensor: Tensor) -> int:
    """How many numbers of a tensor are not zero."""
    return int(torch.count_nonzero(tensor))
