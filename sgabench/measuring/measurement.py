"""What a network weighs: parameters, zeros, multiply-adds and bytes, counted on the network itself."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
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
    with ThreadPoolExecutor(1) as threads:
        return begin_measuring(network, count_operations(network, example[:1]), excluded, threads).result()


def begin_measuring(
    network: nn.Module, operations: Operations, excluded: Collection[str], threads: Executor
) -> Future[Size]:
    """Measure a network, but leave its file to a thread: gzip takes longest by far.

    Args:
        network: must keep its weights until the size is there.
        operations: of this network, or of another one that differs in nothing but its values.
        excluded: names of modules that do not belong to the prunable set.
        threads: gets one thing to do.
    """
    parameters, state = dict(network.named_parameters()), network.state_dict()
    copies = _on_cpu([*parameters.values(), *state.values()])
    nonzero = {name: _nonzero(copies[_place(parameter)]) for name, parameter in parameters.items()}
    names = {id(parameter): name for name, parameter in parameters.items()}
    layers = {name: names[id(weight_of(layer))] for name, layer in prunable_layers(network).items()}
    prunable = [names[id(weight_of(layer))] for layer in prunable_layers(network, excluded).values()]
    prunable_weights = sum(parameters[name].numel() for name in prunable)
    zeros = prunable_weights - sum(nonzero[name] for name in prunable)
    counted = {
        "params": sum(parameter.numel() for parameter in parameters.values()),
        "nonzero_params": sum(nonzero.values()),
        "prunable_weights": prunable_weights,
        "sparsity": zeros / prunable_weights if prunable_weights else 0.0,
        "layer_sparsity": {layer: 1 - nonzero[name] / parameters[name].numel() for layer, name in layers.items()},
        "macs": operations.total,
        "nonzero_macs": operations.nonzero(nonzero),
    }
    return threads.submit(_with_file, counted, {name: copies[_place(tensor)] for name, tensor in state.items()})


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
    operations = count_operations(network, images)
    return operations.total, operations.nonzero({name: _nonzero(p) for name, p in network.named_parameters()})


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
    with evaluating(network), _unfused_attention(), _MultiplyAdds(network) as counter:
        network(images)
    return Operations(tuple(counter.operators), {name: p.numel() for name, p in network.named_parameters()})


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
        return (weight.numel(), _nonzero(weight)) if name is None else name


_Place = tuple[int, torch.Size, torch.dtype]


def _place(tensor: Tensor) -> _Place:
    """Where a tensor is; what has several names is in one place."""
    return tensor.data_ptr(), tensor.shape, tensor.dtype


def _on_cpu(tensors: Iterable[Tensor]) -> dict[_Place, Tensor]:
    """Contiguous tensors on the CPU, by the place of the original."""
    different = {_place(tensor): tensor.detach() for tensor in tensors}
    elsewhere = [tensor for tensor in different.values() if tensor.device.type != "cpu"]
    here = {_place(tensor): tensor.contiguous() for tensor in different.values() if tensor.device.type == "cpu"}
    return here | dict(zip(map(_place, elsewhere), transfer(elsewhere), strict=True))


def transfer(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous copies on the CPU. Tensors of a type travel together: each transfer waits for the device."""
    copies: dict[int, Tensor] = {}
    for dtype in {tensor.dtype for tensor in tensors}:
        same = [number for number, tensor in enumerate(tensors) if tensor.dtype == dtype]
        row = torch.cat([tensors[number].reshape(-1) for number in same]).cpu()
        parts = row.split_with_sizes([tensors[number].numel() for number in same])
        copies |= {n: part.view(tensors[n].shape).clone() for n, part in zip(same, parts, strict=True)}
    return [copies[number] for number in range(len(tensors))]


def _with_file(counted: Mapping[str, Any], state: Mapping[str, Tensor]) -> Size:
    """The size of which all but the bytes is known; a tensor with several names is written under the first one."""
    named: dict[Any, tuple[str, Tensor]] = {}
    for name, tensor in state.items():
        named.setdefault(_place(tensor) if tensor.numel() else name, (name, tensor))
    content = safetensors.torch.save(dict(named.values()))
    return Size(**counted, bytes=len(content), gzip_bytes=len(gzip.compress(content, compresslevel=6, mtime=0)))
