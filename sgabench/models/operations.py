"""Multiply-adds of any network, counted while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from sgabench.models.layers import evaluating


def count_macs(network: nn.Module, images: Tensor) -> tuple[int, int]:
    """Total multiply-adds for the images: all, and those without a zero weight.

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
        operators: multiply-adds of each, and the weights in it: the name of a parameter or, for a part of one, its
            number of elements and of nonzero elements.
        sizes: number of elements of each parameter.
    """

    operators: tuple[tuple[int, tuple[str | tuple[int, int], ...]], ...]
    sizes: Mapping[str, int]

    @property
    def total(self) -> int:
        """All multiply-adds."""
        return sum(macs for macs, _ in self.operators)

    @property
    def follow_from_parameters(self) -> bool:
        """Whether they can be computed for other values, too, by counting the zeros of whole parameters."""
        return all(isinstance(weight, str) for _, weights in self.operators for weight in weights)

    def nonzero(self, parameters: Mapping[str, int]) -> int:
        """Multiply-adds without a zero weight, given the number of nonzero elements of each parameter."""
        total = 0
        for macs, weights in self.operators:
            for weight in weights:
                size, nonzero = (self.sizes[weight], parameters[weight]) if isinstance(weight, str) else weight
                # each weight takes part in equally many multiply-adds, so that this stays exact
                macs = macs // size * nonzero
            total += macs
        return total


def count_operations(network: nn.Module, images: Tensor) -> Operations:
    """Run a network and count its multiply-adds.

    Args:
        network: left as it was.
        images: (N, C, H, W), on the network's device.
    """
    with evaluating(network), unfused(), _MultiplyAdds(network, images) as counter:
        network(images)
    return Operations(tuple(counter.operators), {name: p.numel() for name, p in network.named_parameters()})


@contextmanager
def unfused() -> Iterator[None]:
    """Run attention and recurrent layers as plain matrix products: torch has no formulas for their fused kernels."""
    fast_path, onednn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # its context manager warns of a setting for GPUs
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        torch.backends.mkldnn.enabled = onednn


class _MultiplyAdds(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-adds operator by operator, with the formulas of torch's FlopCounterMode.

    FlopCounterMode itself only sees shapes; here values matter. Weights are recognized by their memory, so that it does
    not matter which module multiplies by them, or by a slice of them. Tensors that a network computes only from its
    weights, and multiplies activations by, are weights, too: their zeros are counted.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[tuple[int, tuple[str | tuple[int, int], ...]]] = []
        self._storages = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        self._names = {(p.data_ptr(), p.numel()): name for name, p in network.named_parameters()}
        self._images = images.untyped_storage().data_ptr()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._pass_on(tree_leaves((args, kwargs)), tree_leaves(result))
        formula = _FORMULAS.get(func.overloadpacket) or flop_registry.get(func.overloadpacket)
        if formula is not None:
            macs = formula(*args, **(kwargs or {}), out_val=result) // 2
            self.operators.append((macs, tuple(map(self._identify, self._weights_among(args)))))
        return result

    def _weights_among(self, args: tuple[Any, ...]) -> list[Tensor]:
        tensors = [value for value in args if isinstance(value, Tensor)]
        # a bias has one dimension, and is added
        weights = [tensor for tensor in tensors if tensor.dim() > 1 and self._origin(tensor) == "weights"]
        if any(self._origin(tensor) == "images" for tensor in tensors):
            return weights
        # Computed weights can be read by weights, e.g. between a table of positions and a bias of attention.
        return [weight for weight in weights if self._is_stored(weight)]

    def _is_stored(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._storages

    def _origin(self, tensor: Tensor) -> str | None:
        is_images = tensor.untyped_storage().data_ptr() == self._images
        known = "weights" if self._is_stored(tensor) else "images" if is_images else None
        return getattr(tensor, "_origin", known)

    def _pass_on(self, operands: list[Any], results: list[Any]) -> None:
        """Remember whether the output of an operator depends on the images or only on weights."""
        origins = {self._origin(operand) for operand in operands if isinstance(operand, Tensor)}
        origin = next((known for known in ("images", "weights") if known in origins), None)
        for result in results:
            if isinstance(result, Tensor) and origin is not None and type(result) is Tensor:
                result._origin = origin  # type: ignore[attr-defined]

    def _identify(self, weight: Tensor) -> str | tuple[int, int]:
        name = self._names.get((weight.data_ptr(), weight.numel()))
        return (weight.numel(), count_nonzero(weight)) if name is None else name


def _trilinear(*args: Any, out_val: Tensor, **kwargs: Any) -> int:
    """For `nn.Bilinear`: the weight is args[1], with one multiply-add per element and row."""
    return 2 * len(out_val) * int(args[1].numel())


def _matrix_vector(*args: Any, out_val: Tensor, **kwargs: Any) -> int:
    matrix = next(value for value in args if isinstance(value, Tensor) and value.dim() == 2)
    return 2 * matrix.numel()


# Operations, as in torch's own table: twice the multiply-adds.
_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten._trilinear: _trilinear,
    torch.ops.aten.mv: _matrix_vector,
    torch.ops.aten.addmv: _matrix_vector,
    torch.ops.aten.dot: lambda left, right, out_val: 2 * left.numel(),
}


def count_nonzero(tensor: Tensor) -> int:
    """Number of nonzero elements of a tensor."""
    return int(torch.count_nonzero(tensor))
