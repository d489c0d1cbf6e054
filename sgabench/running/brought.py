"""Networks that the user's own loop has trained: weights in a file, and a model that suites can name."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
from torch import nn

from sgabench.errors import InputError
from sgabench.plugins import ImageSpec, models
from sgabench.plugins.origins import origin_of
from sgabench.store.store import checksum, write_atomically

SOURCE = "own"
FOLDER = "brought"  # in the results folder
_forms: dict[str, nn.Module] = {}


def bring(networks: Sequence[nn.Module], results: Path) -> tuple[str, str, list[Path]]:
    """Keep the weights of networks in the results folder, and their architecture in this process.

    Args:
        networks: of one architecture; they are not changed.
        results: the results folder, created if it does not exist.

    Returns:
        The name of their model, its option `form`, and a file of weights for each.

    Raises:
        InputError: there are none, one is not a module, they differ in architecture, or a file cannot be written.
    """
    other = next((network for network in networks if not isinstance(network, nn.Module)), None)
    if not networks or other is not None:
        kind = type(networks if other is None else other).__name__
        raise InputError(f"trial_from: takes a torch.nn.Module, or a list of them, not {kind}")
    forms = [_form(network) for network in networks]
    if len(set(forms)) > 1:
        raise InputError("trial_from: replicates must have the same form; call it once for each network, with a label")
    _forms[forms[0]] = copy.deepcopy(networks[0]).cpu()
    models.register_source(SOURCE, kinds={"computed": ("*",)})(_own)  # it can be any network
    return f"{SOURCE}:{type(networks[0]).__name__}", forms[0], [_write(network, results) for network in networks]


def _form(network: nn.Module) -> str:
    """Identifies an architecture by what is visible of it beside the weights."""
    shapes = [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    return hashlib.sha256(f"{network!r} {shapes} {origin_of(type(network)).code}".encode()).hexdigest()[:16]


def _write(network: nn.Module, results: Path) -> Path:
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    content = safetensors.torch.save(state)
    path = results / FOLDER / f"{checksum(content)[:32]}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from None
    return path


def _own(name: str, spec: ImageSpec, *, form: str) -> nn.Module:
    """A network that was passed to `sgabench.trial_from` in this process."""
    if form not in _forms:
        raise InputError(f"{SOURCE}:{name}: only the process that called trial_from has it")
    return copy.deepcopy(_forms[form]).requires_grad_(True).train()
