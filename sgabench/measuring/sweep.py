"""Prune and measure one trained network many times, computing once what does not depend on the ratio."""

from __future__ import annotations

import copy
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sgabench.errors import InputError
from sgabench.measuring.measurement import Size, begin_measuring
from sgabench.models.layers import input_and_classifier, prunable_weights
from sgabench.models.operations import Operations, count_operations
from sgabench.plugins import pruners
from sgabench.plugins.specs import Once, PruningContext
from sgabench.training.data import Data, batches
from sgabench.training.evaluation import EVALUATION_BATCH, Evaluation, evaluate_batches

# Bytes: a normalized test split of at most this size is kept; that of CIFAR-10 has 123 MB.
KEPT_BYTES = 2**28

_T = TypeVar("_T")


class Sweep:
    """Prunes copies of a trained network and measures them.

    Args:
        dense: the trained network in evaluation mode; it is not changed.
        data: what it was trained on.
        precision: ``fp32`` or ``bf16``.
        context: for its pruners, with nothing excluded.
        threads: compress files while networks are evaluated.
    """

    def __init__(
        self, dense: nn.Module, data: Data, precision: str, context: PruningContext, threads: Executor
    ) -> None:
        self.dense = dense
        self._data = data
        self._precision = precision
        self._context = context
        self._threads = threads
        self._subject: tuple[Any, ...] = ()
        self._made: dict[str, Any] = {}
        self.notes: dict[str, Any] = {}  # of the pruner, about the last network

    def excluded(self, include_input: bool, include_classifier: bool) -> frozenset[str]:
        """Names of the modules that are not pruned."""
        inputs, classifier = self._ends
        return frozenset(() if include_input else inputs) | frozenset(() if include_classifier else classifier)

    def prune(self, name: str, options: Mapping[str, Any], ratio: float, excluded: frozenset[str]) -> nn.Module:
        """A pruned copy, in evaluation mode.

        Raises:
            TypeError: the pruner returned no network, or one with hooks on it.
            InputError: there is nothing to prune and nothing was pruned: such a network would keep all its accuracy.
        """
        self.notes = {}
        once = self._once(name, options, excluded)
        context = replace(self._context, excluded=excluded, once=once, notes=self.notes)
        pruned = pruners[name].build(copied(self.dense), ratio, context, **options)
        if not isinstance(pruned, nn.Module):
            raise TypeError(f"pruner {name!r} returned {type(pruned).__name__}, not a network")
        if _has_hooks(pruned) and not _has_hooks(self.dense):
            raise TypeError(f"pruner {name!r} left hooks on the network")
        if ratio > 0 and not prunable_weights(pruned, excluded) and _is_equal(pruned, self.dense):
            layers = ", ".join(sorted(excluded & prunable_weights(self.dense).keys()))
            mended = f" but {layers}, which include_input and include_classifier would include" if layers else ""
            raise InputError(f"nothing was pruned: there are no weights that pruners act on{mended}")
        return pruned.eval()

    def pruning(
        self, name: str, options: Mapping[str, Any], excluded: frozenset[str]
    ) -> Callable[[nn.Module, float], object]:
        """A function that prunes networks of this architecture in place; nothing is shared between its calls."""
        plugin, context = pruners[name], replace(self._context, excluded=excluded)
        return lambda network, ratio: plugin.build(network, ratio, context, **options)

    def copied(self) -> nn.Module:
        """A copy of the trained network."""
        return copied(self.dense)

    def evaluate(self, network: nn.Module) -> Evaluation:
        """Evaluate a network on the test split."""
        return evaluate_batches(network, self._test, self._precision)

    def begin_size(self, network: nn.Module, excluded: Collection[str]) -> Future[Size]:
        """Begin to measure a network, which must keep its weights until the future is done."""
        operations = self._operations
        if not (operations.follow_from_parameters and alike(network, self.dense)):
            operations = count_operations(network, example_of(self._data))
        return begin_measuring(network, operations, excluded, self._threads)

    def _once(self, name: str, options: Mapping[str, Any], excluded: frozenset[str]) -> Once:
        """The cache of the current pruner; the previous one's is dropped: two rankings may be too large."""
        subject = (name, json.dumps(options, sort_keys=True, default=repr), excluded)
        if subject != self._subject:
            self._subject, self._made = subject, {}
        made = self._made

        def once(name: str, make: Callable[[], _T]) -> _T:
            if name not in made:
                made[name] = make()
            value: _T = made[name]
            return value

        return once

    @cached_property
    def _ends(self) -> tuple[frozenset[str], frozenset[str]]:
        return input_and_classifier(self.dense, example_of(self._data))

    @cached_property
    def _operations(self) -> Operations:
        return count_operations(self.dense, example_of(self._data))

    @cached_property
    def _kept(self) -> list[tuple[Tensor, Tensor]] | None:
        test = self._data.test
        if test.images.numel() * torch.float32.itemsize > KEPT_BYTES:
            return None
        return list(batches(self._data, test, EVALUATION_BATCH))

    @property
    def _test(self) -> Iterable[tuple[Tensor, Tensor]]:
        return self._kept or batches(self._data, self._data.test, EVALUATION_BATCH)


def example_of(data: Data) -> Tensor:
    """One image of zeros, as a network sees it."""
    spec = data.spec
    example = torch.zeros(1, spec.channels, spec.height, spec.width, device=data.device)
    return example.contiguous(memory_format=torch.channels_last)


def copied(network: nn.Module) -> nn.Module:
    """A deep copy in half the time: most tables of hooks are empty, and most buffers are plain tensors."""
    tables = (value for module in network.modules() for value in vars(module).values())
    made: dict[int, Any] = {id(table): OrderedDict() for table in tables if type(table) is OrderedDict and not table}
    storages = Counter(buffer.untyped_storage().data_ptr() for buffer in network.buffers())
    for buffer in network.buffers():
        alone = storages[buffer.untyped_storage().data_ptr()] == 1
        if type(buffer) is Tensor and alone and buffer.is_contiguous():
            made[id(buffer)] = buffer.clone()
    return copy.deepcopy(network, made)


def alike(network: nn.Module, other: nn.Module) -> bool:
    """Whether two networks differ only in the values of their parameters and buffers.

    Then they run the same operators on tensors of the same shapes. Attributes that cannot be compared count as
    different.
    """
    own, others = dict(network.named_modules()), dict(other.named_modules())
    return (
        own.keys() == others.keys()
        and [name for name, _ in network.named_parameters()] == [name for name, _ in other.named_parameters()]
        and all(_alike(module, others[name]) for name, module in own.items())
    )


def _alike(module: nn.Module, other: nn.Module) -> bool:
    own, others = dict(vars(module)), dict(vars(other))
    same = [_forms(own.pop(kind)) == _forms(others.pop(kind)) for kind in ("_parameters", "_buffers")]
    same.append(own.pop("_modules").keys() == others.pop("_modules").keys())
    try:
        return type(module) is type(other) and all(same) and bool(own == others)
    except (RuntimeError, ValueError, TypeError):  # comparisons of tensors and arrays have no single truth value
        return False


def _forms(tensors: Mapping[str, Tensor | None]) -> list[Any]:
    return [(name, tensor if tensor is None else (tensor.shape, tensor.dtype)) for name, tensor in tensors.items()]


def _is_equal(network: nn.Module, other: nn.Module) -> bool:
    own, others = network.state_dict(), other.state_dict()
    return own.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in own.items())


def _has_hooks(network: nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
