"""What a network weighs: parameters, zeros, multiply-adds and bytes, counted on the network itself."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sgabench.pruners.base import evaluating, prunable_layers, weight_of


@dataclass(frozen=True)
class Size:
    """The size of a network. What is shared between layers counts once.

    Attributes:
        params: all parameters.
        nonzero_params: those that are not zero.
        prunable_weights: weights of convolutions and linear layers that were not excluded.
        sparsity: the fraction of the prunable weights that is zero; 0 if there are none.
        layer_sparsity: the same for every convolution and linear layer, excluded ones too.
        macs: multiply-adds for one image in convolutions, matrix products and attention, as they are
            executed: a zero weight is multiplied like any other.
        nonzero_macs: those that touch no zero weight.
        bytes: parameters and buffers as a safetensors file.
        gzip_bytes: the same file after gzip at level 6.
    """

    params: int
    nonzero_params: int
    prunable_weights: int
    sparsity: float
    layer_sparsity: dict[str, float]
    macs: int
    nonzero_macs: int
    bytes: int
    gzip_bytes: int


def measure_size(network: nn.Module, example: Tensor, excluded: Collection[str] = ()) -> Size:
    """Measure a network by looking at its weights and running it once.

    Args:
        network: left as it was.
        example: images (N, C, H, W) on the network's device; the first one is used.
        excluded: names of modules that do not belong to the prunable set.
    """
    parameters = list(network.parameters())
    layers = {name: weight_of(layer) for name, layer in prunable_layers(network).items()}
    prunable = [weight_of(layer) for layer in prunable_layers(network, excluded).values()]
    prunable_weights = sum(weight.numel() for weight in prunable)
    zeros = prunable_weights - sum(map(_nonzero, prunable))
    macs, nonzero_macs = count_macs(network, example[:1])
    content = _serialize(network)
    return Size(
        params=sum(parameter.numel() for parameter in parameters),
        nonzero_params=sum(map(_nonzero, parameters)),
        prunable_weights=prunable_weights,
        sparsity=zeros / prunable_weights if prunable_weights else 0.0,
        layer_sparsity={name: 1 - _nonzero(weight) / weight.numel() for name, weight in layers.items()},
        macs=macs,
        nonzero_macs=nonzero_macs,
        bytes=len(content),
        gzip_bytes=len(gzip.compress(content, compresslevel=6, mtime=0)),
    )


def compression_ratio(dense: Size, pruned: Size) -> float | None:
    """Parameters of the dense network / non-zero ones of the pruned (ShrinkBench, arXiv 2003.03033).

    Returns:
        At least 1; None if no parameter is left.
    """
    return dense.params / pruned.nonzero_params if pruned.nonzero_params else None


def theoretical_speedup(dense: Size, pruned: Size) -> float | None:
    """Multiply-adds of the dense network / those of the pruned one that touch no zero (arXiv 2003.03033).

    It says nothing of the time that the network takes.

    Returns:
        At least 1; None if no multiply-add is left.
    """
    return dense.macs / pruned.nonzero_macs if pruned.nonzero_macs else None


def _nonzero(tensor: Tensor) -> int:
    return int(torch.count_nonzero(tensor))


def count_macs(network: nn.Module, images: Tensor) -> tuple[int, int]:
    """Multiply-adds for the images together: all, and those that touch no zero weight.

    Args:
        network: left as it was.
        images: (N, C, H, W), on the network's device.
    """
    with evaluating(network), _unfused_attention(), _MultiplyAdds(network) as counter:
        network(images)
    return counter.total, counter.nonzero


@contextmanager
def _unfused_attention() -> Iterator[None]:
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
        self.total = 0
        self.nonzero = 0
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            macs = formula(*args, **(kwargs or {}), out_val=result) // 2
            self.total += macs
            for weight in filter(self._is_weight, args):
                # each weight takes part in equally many multiply-adds, so that this stays exact
                macs = macs // weight.numel() * _nonzero(weight)
            self.nonzero += macs
        return result

    def _is_weight(self, value: object) -> bool:
        # a bias has one dimension, and is added
        return isinstance(value, Tensor) and value.dim() > 1 and value.untyped_storage().data_ptr() in self._weights


def _serialize(network: nn.Module) -> bytes:
    """The state as safetensors; a tensor with several names is written under the first one."""
    named: dict[tuple[int, int, tuple[int, ...]], tuple[str, Tensor]] = {}
    for name, tensor in network.state_dict().items():
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape))
        named.setdefault(place if tensor.numel() else (0, len(named), ()), (name, tensor))
    return safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in named.values()})
