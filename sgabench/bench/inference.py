"""Throughput and latency of a network as it was, with zeros in it, with fewer channels, and in 2:4 sparsity."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.sparse import SparseSemiStructuredTensor

from sgabench.bench.benchmark import Benchmark, quartiles, ratios, spread
from sgabench.bench.pruning import SPEC, network_of
from sgabench.errors import InputError, describe
from sgabench.measuring.sparse import compress
from sgabench.measuring.timing import time_interleaved
from sgabench.models.layers import input_and_classifier, prunable_layers
from sgabench.models.operations import count_macs
from sgabench.plugins import PruningContext, pruners
from sgabench.system.environment import PeakMemory, describe_environment
from sgabench.system.precision import uses_bf16
from sgabench.training.building import set_up_torch

MODELS = ("resnet20", "torchvision:resnet18", "timm:vit_small_patch16_224")
DENSE = "dense"
RATIO = 0.5
_BATCHES = {"cpu": (1, 128), "cuda": (1, 1024)}
_ROUNDS = 15
_NOTE = (
    "Time: of a forward pass, median over {rounds} rounds, in which the networks take turns. Speedup: the dense "
    "network's time / time, in the same round, median [first to third quartile]; theory: the same of multiply-adds "
    "that touch no zero. Unstructured: half of the weights are zero; structured: half of the parameters are gone; 2:4: "
    "two of each four weights of the linear layers are gone, in kernels for that{only}. Memory: weights and buffers + "
    "what else a pass held at most. Images of 3 x 32 x 32, {dtype}."
)


@dataclass(frozen=True)
class Variant:
    """A network to be timed, or why there is none."""

    network: nn.Module | None
    speedup: float | None = None
    problem: str = ""


def measure(names: Sequence[str], device: str) -> Benchmark:
    """Time forward passes of networks that take turns.

    Args:
        names: models as a suite names them, for images of 3 x 32 x 32 and 10 classes; none: `MODELS`.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: an unknown model.
    """
    set_up_torch(device, torch.get_num_threads())
    dtype = torch.bfloat16 if uses_bf16(device) else torch.float32
    networks = {name: network_of(name, device) for name in names or MODELS}
    rows = [row for name, network in networks.items() for row in _of_model(name, network, device, dtype)]
    only = "" if device == "cuda" else ", only on CUDA"
    note = _NOTE.format(rounds=_ROUNDS, only=only, dtype=str(dtype).removeprefix("torch."))
    environment = describe_environment(device, torch.get_num_threads())
    return Benchmark("inference", rows, [_shown(row) for row in rows], note, environment)


def _of_model(name: str, network: nn.Module, device: str, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    kinds = ("unstructured", "structured", "2:4") if device == "cuda" else ("unstructured", "structured")
    variants = variants_of(network, kinds, dtype)
    for batch in _BATCHES[device]:
        images = torch.randn(batch, SPEC.channels, SPEC.height, SPEC.width, device=device, dtype=dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            passes, problems = _working(variants, images)
            memory = {label: _transient(run, device) for label, run in passes.items()}
            times = time_interleaved(passes, device, _ROUNDS)
        for label, variant in variants.items():
            row = {"model": name, "network": label, "batch": batch, "dtype": str(dtype).removeprefix("torch.")}
            if label not in passes:
                yield row | {"problem": problems[label]}
                continue
            assert variant.network is not None
            yield row | {
                "batch_s": quartiles(times[label]),
                "images_per_s": batch / quartiles(times[label])[1],
                "speedup": ratios(times[DENSE], times[label]),
                "theoretical_speedup": variant.speedup,
                "weights_bytes": _bytes(variant.network),
                "transient_bytes": memory[label],
            }


def variants_of(network: nn.Module, kinds: Sequence[str], dtype: torch.dtype) -> dict[str, Variant]:
    """What is timed, by name, the dense network first.

    Args:
        network: in evaluation mode and float32; left as it is.
        kinds: ``unstructured``, ``structured``, ``2:4``.
        dtype: of the weights.
    """
    parameter = next(network.parameters())
    example = torch.zeros(1, SPEC.channels, SPEC.height, SPEC.width, device=parameter.device)
    inputs, classifier = input_and_classifier(network, example)
    context = PruningContext(SPEC, 0, lambda: iter(()), inputs | classifier)
    macs, _ = count_macs(network, example)
    makers: dict[str, Callable[[nn.Module], nn.Module]] = {
        "unstructured": lambda of: pruners["magnitude"].build(of, RATIO, context),
        "structured": lambda of: pruners["structured"].build(of, RATIO, context),
        "2:4": lambda of: keep_two_of_four(of, context.excluded),
    }
    variants = {DENSE: Variant(copy.deepcopy(network).to(dtype), 1.0)}
    for kind in kinds:
        try:
            pruned = makers[kind](copy.deepcopy(network))
            speedup = macs / count_macs(pruned, example)[1]
            pruned = pruned.to(dtype)
            if kind == "2:4":
                compress(pruned, context.excluded)
            variants[kind] = Variant(pruned, speedup)
        except (InputError, RuntimeError) as error:
            variants[kind] = Variant(None, problem=str(error))
    return variants


@torch.no_grad()
def keep_two_of_four(network: nn.Module, excluded: frozenset[str]) -> nn.Module:
    """Zero the two smallest of every four neighbouring weights of the linear layers.

    Raises:
        InputError: there is no linear layer that may be pruned and whose inputs come in fours.
    """
    layers = _linear_layers(network, excluded)
    if not layers:
        raise InputError("no linear layer but the classifier")
    for layer in layers.values():
        fours = layer.weight.view(-1, 4)
        fours.scatter_(1, fours.abs().topk(2, dim=1, largest=False).indices, 0.0)
    return network


def _linear_layers(network: nn.Module, excluded: frozenset[str]) -> dict[str, nn.Linear]:
    layers = prunable_layers(network, excluded).items()
    return {name: layer for name, layer in layers if isinstance(layer, nn.Linear) and layer.in_features % 4 == 0}


def _working(variants: Mapping[str, Variant], images: Tensor) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Forward passes of the networks that can do one, and why the others cannot."""
    passes: dict[str, Callable[[], Any]] = {}
    problems: dict[str, str] = {}
    for label, variant in variants.items():
        if variant.network is None:
            problems[label] = variant.problem
            continue
        try:
            variant.network(images)
        except RuntimeError as error:
            if label == DENSE:
                raise
            problems[label] = describe(error)  # kernels for 2:4 sparsity refuse batches in as many ways as weights
        else:
            passes[label] = partial(variant.network, images)
    return passes, problems


def _transient(run: Callable[[], object], device: str) -> int:
    peak = PeakMemory(device)
    run()
    return peak.growth()


def _bytes(network: nn.Module) -> int:
    return sum(map(_tensor_bytes, [*network.parameters(), *network.buffers()]))


def _tensor_bytes(tensor: Tensor) -> int:
    if isinstance(tensor, SparseSemiStructuredTensor):
        return sum(getattr(tensor, name).nbytes for name in tensor.__tensor_flatten__()[0])
    return tensor.nbytes


def _shown(row: dict[str, Any]) -> dict[str, str]:
    label = {"model": row["model"], "network": row["network"], "batch": str(row["batch"])}
    if "problem" in row:
        return label | {"time": "", "images/s": "", "speedup": row["problem"], "theory": "", "memory": ""}
    theory = row["theoretical_speedup"]
    return label | {
        "time": f"{1e3 * row['batch_s'][1]:.2f} ms",
        "images/s": f"{row['images_per_s']:.0f}",
        "speedup": spread(row["speedup"]),
        "theory": "" if theory is None else f"{theory:.2f}",
        "memory": f"{row['weights_bytes'] / 1e6:.1f} + {row['transient_bytes'] / 1e6:.1f} MB",
    }
