"""Networks on disk: weights as safetensors, beside a small JSON file from which the network is rebuilt.

The code that pruned it is not needed: for every module, the numbers that differ from the original model's are kept.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sgabench.errors import InputError, shorten
from sgabench.models.state import load_tensors
from sgabench.plugins import ImageSpec, models

FORMAT = 1


def save_network(
    network: nn.Module, path: Path, model: str, options: Mapping[str, Any], spec: ImageSpec, about: Mapping[str, Any]
) -> None:
    """Write a pruned network of a model, and prove that it can be rebuilt.

    Args:
        network: in evaluation mode.
        path: of the weights, ``.safetensors``; the JSON file gets the same name.
        model: its name in suites.
        options: of the model.
        spec: of its images.
        about: further content of the JSON file, e.g. how images are normalized.

    Raises:
        InputError: it has other modules than its model, or gives different logits after loading.
        OSError: a file cannot be written.
    """
    network = copy.deepcopy(network).cpu()
    built = _build(model, options, spec)
    description = {
        "format": FORMAT,
        "model": {"name": model, "options": dict(options)},
        "images": asdict(spec),
        "modules": _differences(network, built, model),
        **about,
    }
    state = {name: value.clone(memory_format=torch.contiguous_format) for name, value in network.state_dict().items()}
    content = safetensors.torch.save(state)
    description["weights_sha256"] = hashlib.sha256(content).hexdigest()
    images = torch.randn(4, spec.channels, spec.height, spec.width, generator=torch.Generator().manual_seed(0))
    again = _restored(json.loads(json.dumps(description)), content, str(path))
    with torch.inference_mode():
        if not torch.allclose(again(images), network(images), rtol=1e-4, atol=1e-4):
            raise InputError(f"{path.name}: the network cannot be rebuilt from numbers: it gives different logits")
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_network(path: str | Path) -> nn.Module:
    """Load a network that ``sgabench prune`` has kept, on the CPU and in evaluation mode.

    It takes images (N, C, H, W), normalized as in the JSON file. A plugin's model must be registered first
    (``sgabench.plugins.registry.load_plugin_file``).

    Args:
        path: of the ``.safetensors`` file; the JSON file is beside it.

    Raises:
        InputError: a file is missing, damaged, or of a later version.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        description = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{path.with_suffix('.json')}: not the description of a network: {error}") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        found = description.get("format") if isinstance(description, dict) else description
        raise InputError(f"{path.with_suffix('.json')}: format must be {FORMAT}, got {shorten(found)}")
    if hashlib.sha256(content).hexdigest() != description.get("weights_sha256"):
        raise InputError(f"{path}: damaged: its checksum is not the one in {path.with_suffix('.json').name}")
    try:
        return _restored(description, content, str(path))
    except (KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{path.with_suffix('.json')}: does not fit its weights: {error}") from None


def _build(model: str, options: Mapping[str, Any], spec: ImageSpec) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = models[model].build(spec, **options)
    return network.eval()


def _restored(description: Mapping[str, Any], content: bytes, where: str) -> nn.Module:
    network = _build(description["model"]["name"], description["model"]["options"], ImageSpec(**description["images"]))
    for name, numbers in description["modules"].items():
        module = network.get_submodule(name)
        for attribute, value in numbers.items():
            present = getattr(module, attribute)
            setattr(module, attribute, type(present)(value) if isinstance(present, tuple) else value)
    _take(network, safetensors.torch.load(content), where)
    return network


def _take(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Give a network tensors of other shapes; shared tensors stay shared."""
    expected = network.state_dict().keys()
    if expected != state.keys():
        raise InputError(f"{where}: tensors differ from the model's: {', '.join(sorted(expected ^ state.keys())[:3])}")
    shared: dict[int, nn.Parameter] = {}
    for name, parameter in list(network.named_parameters(remove_duplicate=False)):
        owner, _, attribute = name.rpartition(".")
        own = shared.setdefault(id(parameter), nn.Parameter(torch.empty_like(state[name]), parameter.requires_grad))
        setattr(network.get_submodule(owner), attribute, own)
    for name, _ in list(network.named_buffers(remove_duplicate=False)):
        owner, _, attribute = name.rpartition(".")
        if name in state:
            network.get_submodule(owner)._buffers[attribute] = torch.empty_like(state[name])
    load_tensors(network, state)  # lets modules that depend on their tensors update themselves


def _differences(network: nn.Module, built: nn.Module, model: str) -> dict[str, dict[str, Any]]:
    """The numbers of each module that differ from the original model's."""
    own, others = dict(network.named_modules()), dict(built.named_modules())
    kinds = [{name: type(module) for name, module in of.items()} for of in (own, others)]
    if kinds[0] != kinds[1]:
        raise InputError(f"the network's modules are not those that model {model!r} makes: it cannot be kept")
    found = {name: _numbers(module, others[name]) for name, module in own.items()}
    return {name: numbers for name, numbers in found.items() if numbers}


def _numbers(module: nn.Module, other: nn.Module) -> dict[str, Any]:
    own, others = vars(module), vars(other)
    return {
        name: value
        for name, value in own.items()
        if not name.startswith("_") and name in others and _is_plain(value) and value != others[name]
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str) or (isinstance(value, tuple) and all(map(_is_plain, value)))
