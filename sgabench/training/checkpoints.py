"""Load weights from files of other programs into a network."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sgabench.errors import InputError, describe
from sgabench.models.pretrained import published_weights
from sgabench.models.state import load_tensors
from sgabench.suite.checkpoints import Checkpoint

# Names under which training scripts nest a state dict in what they save, and prefixes that wrappers add to its keys.
NESTINGS = ("state_dict", "model_state_dict", "model", "net", "network")
PREFIXES = ("module.", "_orig_mod.", "model.")
_SHOWN = 3  # of the keys that do not fit


def load_checkpoint(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's weights into a network of its model, which already has them if they are published ones.

    Raises:
        InputError: the file cannot be read, was changed since its content entered the key, or does not fit the network;
            published weights lack a layer, and nothing trains it.
    """
    if checkpoint.weights is None:
        replaced = (published_weights(network) or {}).get("replaced", [])
        if replaced and not checkpoint.trains:
            raise InputError(
                f"the published weights of {checkpoint.model.label!r} are for other classes or channels than the "
                f"data set's: {', '.join(replaced)} would be untrained; train it (epochs, optimizer in [[checkpoints]])"
            )
        return
    current = checkpoint.with_content()
    if current.sha256 != checkpoint.sha256:
        raise InputError(f"checkpoint {checkpoint.label!r}: {checkpoint.weights} was changed during the run; run again")
    state = fitted(read_weights(checkpoint.weights), network)
    problem = _problem(state, network)
    if problem:
        raise InputError(f"{checkpoint.weights} does not fit model {checkpoint.model.label!r}: {problem}")
    load_tensors(network, state, strict=False)  # only counters may be missing


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file; pickles are read only if they contain nothing but tensors and plain values.

    Raises:
        InputError: not a file of weights, or reading it would run code.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: contains more than tensors, and reading it would run code; save network.state_dict() instead"
        ) from None
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as weights ({describe(error)})") from None
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping) and not all(isinstance(value, Tensor) for value in content.values()):
        inside = next((content[name] for name in NESTINGS if isinstance(content.get(name), Mapping)), None)
        if inside is None:
            break
        content = inside
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: holds {type(content).__name__}, not the state dict of a network")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise InputError(
            f"{path}: no state dict at the top, nor under {', '.join(NESTINGS)}; besides tensors, it has {_few(others)}"
        )
    return {str(name): tensor for name, tensor in content.items()}


def fitted(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights without a wrapper's prefix on all names, if they fit only without it."""
    own = network.state_dict().keys()
    names = dict(zip(state, state, strict=True))
    while not own & set(names.values()):
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in names.values())), None)
        if prefix is None:
            break
        names = {name: inner.removeprefix(prefix) for name, inner in names.items()}
    return {names[name]: tensor for name, tensor in state.items()}


def _problem(state: Mapping[str, Tensor], network: nn.Module) -> str:
    """How a state dict does not fit, in words; empty if it does."""
    own = network.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    problems = [f"{what} {_few(names)}" for what, names in (("missing", missing), ("unexpected", unexpected)) if names]
    other = [name for name in own if name in state and state[name].shape != own[name].shape]
    if other and not problems:
        first, more = other[0], f", and {len(other) - 1} more" if other[1:] else ""
        problems.append(f"{first} is {_shape(state[first])} in the file and {_shape(own[first])} in the network{more}")
    return "; ".join(problems)


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
