"""Snapshots of a training: its exact state, so that it can continue after a stop with the same bits."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sgabench.store.files import Files
from sgabench.system.interruption import Terminated


class Snapshots:
    """The snapshot of one training, written regularly and when the process is asked to stop.

    Args:
        files: that it is among; there is never more than one.
        name: of its file.
        context: JSON values that must be the same for a snapshot to be usable.
        seconds: between two snapshots; 0: only when the process is asked to stop.
    """

    def __init__(self, files: Files, name: str, context: Mapping[str, Any], seconds: float) -> None:
        self._files = files
        self._name = name
        self._context = json.loads(json.dumps(context))
        self._seconds = seconds
        self._last = time.monotonic()
        self._signal = 0

    def load(self) -> Any:
        """The content of the snapshot; None: there is none, it is damaged, or it was made in another context."""
        try:
            content = self._files.read(self._name) or b""
            tensors = safetensors.torch.load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            state, digest = json.loads(header["__metadata__"]["state"]), header["__metadata__"]["digest"]
        except (SafetensorError, ValueError, TypeError, KeyError):
            return None
        if digest != _digest(tensors, state) or state["context"] != self._context:
            return None
        return _unflatten(state["tree"], tensors)

    def due(self) -> bool:
        """Whether it is time to save, or the process has been asked to stop."""
        return bool(self._signal) or 0 < self._seconds <= time.monotonic() - self._last

    def save(self, tree: Any) -> None:
        """Write a snapshot; then raise if the process has been asked to stop.

        Args:
            tree: tensors, their types, numbers, texts and None in dictionaries, lists and tuples. Anything else
                cannot be saved: such a training (of a plugin's optimizer, say) has no snapshots.

        Raises:
            KeyboardInterrupt, Terminated: the process was asked to stop.
        """
        try:
            tensors: dict[str, Tensor] = {}
            state = {"tree": _flatten(tree, tensors), "context": self._context}
            metadata = {"state": json.dumps(state), "digest": _digest(tensors, json.loads(json.dumps(state)))}
            self._files.write(self._name, safetensors.torch.save(tensors, metadata))
        except (TypeError, OSError):
            self._seconds = 0
        self._last = time.monotonic()
        self._stop_if_asked()

    def discard(self) -> None:
        """Remove the snapshot of a training that is over."""
        self._files.remove(self._name)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Treat SIGINT or SIGTERM as a request to stop at the next step; a second SIGINT stops at once.

        A second SIGTERM does not: stopping a process group sends one to each process, and the parent sends its workers
        one more. A request that no step has met is met at the end.

        Raises:
            KeyboardInterrupt, Terminated: the process was asked to stop after the last step.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._asked)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._stop_if_asked()

    def _asked(self, number: int, _: FrameType | None) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = self._signal or number

    def _stop_if_asked(self) -> None:
        if self._signal == signal.SIGTERM:
            raise Terminated
        if self._signal:
            raise KeyboardInterrupt


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A tree as JSON values, with numbers for its tensors."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": [name, _strides(value)]}
    if isinstance(value, Mapping):
        return {"dict": [[_flatten(key, tensors), _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_flatten(item, tensors) for item in value]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be in a snapshot")


def _unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        name, strides = content
        return tensors[name] if strides is None else _laid_out(tensors[name], strides)
    if kind == "dtype":
        return getattr(torch, content)
    if kind == "dict":
        return {_unflatten(key, tensors): _unflatten(item, tensors) for key, item in content}
    items = [_unflatten(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def _strides(value: Tensor) -> list[int] | None:
    """A tensor's strides, which affect the choice of kernels but are not in the file; None: row-major, or a view."""
    if value.is_contiguous():
        return None
    expected = 1
    for stride, size in sorted(zip(value.stride(), value.shape, strict=True)):
        if size > 1 and stride != expected:
            return None  # it has gaps or overlaps
        expected *= size
    return list(value.stride())


def _laid_out(value: Tensor, strides: list[int]) -> Tensor:
    return torch.empty_strided(value.shape, strides, dtype=value.dtype).copy_(value)


def _digest(tensors: Mapping[str, Tensor], state: Any) -> str:
    """SHA-256 of the whole content: a flipped bit must not become a wrong number."""
    digest = hashlib.sha256(json.dumps(state).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
