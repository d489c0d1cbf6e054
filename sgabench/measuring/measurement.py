"""The size of a network: parameters, zeros, multiply-adds and bytes, counted on the network itself."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from sgabench.models.layers import prunable_layers, prunable_weights, width_of
from sgabench.models.operations import Operations, count_nonzero, count_operations


@dataclass(frozen=True)
class Size:
    """The size of a network. Tensors that layers share count once.

    Attributes:
        params: all parameters.
        nonzero_params: those that are not zero.
        prunable_weights: number of weights that pruners act on and that were not excluded.
        sparsity: the fraction of the prunable weights that is zero; 0 if there are none.
        layer_sparsity: the same for every layer's weight, including excluded ones, by the names of `prunable_weights`.
        layer_channels: output channels or features of each convolution and linear layer.
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
    layer_channels: dict[str, int]
    macs: int
    nonzero_macs: int
    bytes: int
    gzip_bytes: int

    def numbers(self) -> dict[str, Any]:
        """All fields except those per layer."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("layer_")}

    def layers(self) -> dict[str, Any]:
        """The fields that have a value per layer."""
        return {"layer_sparsity": self.layer_sparsity, "layer_channels": self.layer_channels}


def measure_size(network: nn.Module, example: Tensor, excluded: Collection[str] = ()) -> Size:
    """Measure a network by looking at its weights and running it once.

    Args:
        network: it is not changed.
        example: images (N, C, H, W) on the network's device; the first one is used.
        excluded: names of weights or modules that do not belong to the prunable set.
    """
    with ThreadPoolExecutor(1) as threads:
        return begin_measuring(network, count_operations(network, example[:1]), excluded, threads).result()


def begin_measuring(
    network: nn.Module, operations: Operations, excluded: Collection[str], threads: Executor
) -> Future[Size]:
    """Measure a network, with its file compressed in a thread: gzip takes by far the longest.

    Args:
        network: must keep its weights until the future is done.
        operations: of this network, or of another one that differs only in its values.
        excluded: names of weights or modules that do not belong to the prunable set.
        threads: for the file.
    """
    parameters, state = dict(network.named_parameters()), network.state_dict()
    copies = _on_cpu([*parameters.values(), *state.values()])
    nonzero = {name: count_nonzero(copies[_place(parameter)]) for name, parameter in parameters.items()}
    names = {id(parameter): name for name, parameter in parameters.items()}
    layers = {layer: names[id(weight)] for layer, weight in prunable_weights(network).items()}
    prunable = [names[id(weight)] for weight in prunable_weights(network, excluded).values()]
    count = sum(parameters[name].numel() for name in prunable)
    zeros = count - sum(nonzero[name] for name in prunable)
    counted = {
        "params": sum(parameter.numel() for parameter in parameters.values()),
        "nonzero_params": sum(nonzero.values()),
        "prunable_weights": count,
        "sparsity": zeros / count if count else 0.0,
        "layer_sparsity": {layer: 1 - nonzero[name] / parameters[name].numel() for layer, name in layers.items()},
        "layer_channels": {name: width_of(layer) for name, layer in prunable_layers(network).items()},
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

    It says nothing about the time that the network takes.

    Returns:
        At least 1; None if no multiply-add is left.
    """
    return dense.macs / pruned.nonzero_macs if pruned.nonzero_macs else None


_Place = tuple[int, torch.Size, torch.dtype]


def _place(tensor: Tensor) -> _Place:
    """Identifies a tensor's memory, the same for all its names."""
    return tensor.data_ptr(), tensor.shape, tensor.dtype


def _on_cpu(tensors: Iterable[Tensor]) -> dict[_Place, Tensor]:
    """Contiguous copies on the CPU, by the place of the original."""
    different = {_place(tensor): tensor.detach() for tensor in tensors}
    elsewhere = [tensor for tensor in different.values() if tensor.device.type != "cpu"]
    here = {_place(tensor): tensor.contiguous() for tensor in different.values() if tensor.device.type == "cpu"}
    return here | dict(zip(map(_place, elsewhere), transfer(elsewhere), strict=True))


def transfer(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous copies on the CPU. Tensors of a type are transferred together: each transfer waits for the device."""
    copies: dict[int, Tensor] = {}
    for dtype in {tensor.dtype for tensor in tensors}:
        same = [number for number, tensor in enumerate(tensors) if tensor.dtype == dtype]
        row = torch.cat([tensors[number].reshape(-1) for number in same]).cpu()
        parts = row.split_with_sizes([tensors[number].numel() for number in same])
        copies |= {n: part.view(tensors[n].shape).clone() for n, part in zip(same, parts, strict=True)}
    return [copies[number] for number in range(len(tensors))]


def _with_file(counted: Mapping[str, Any], state: Mapping[str, Tensor]) -> Size:
    """Add the bytes to an otherwise known size; a tensor with several names is written under the first one."""
    named: dict[Any, tuple[str, Tensor]] = {}
    for name, tensor in state.items():
        named.setdefault(_place(tensor) if tensor.numel() else name, (name, tensor))
    content = safetensors.torch.save(dict(named.values()))
    return Size(**counted, bytes=len(content), gzip_bytes=len(gzip.compress(content, compresslevel=6, mtime=0)))
