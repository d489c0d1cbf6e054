"""Reload trained networks from stored weights, if they evaluate as they did when they were trained."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from sgabench.models.state import load_tensors
from sgabench.store.files import Files
from sgabench.store.forms import finite
from sgabench.store.store import Record, checksum, weights_name

# Relative difference that rounding in other versions, devices or numbers of threads may cause.
_ROUNDING = 1e-3

_logger = logging.getLogger("sgabench")


def reload(
    build: Callable[[], nn.Module],
    files: Files,
    trained: Record,
    evaluate: Callable[[nn.Module], Mapping[str, float]],
    environment: Mapping[str, Any],
) -> nn.Module | None:
    """The trained network of an earlier run; None if it must be trained again.

    It is evaluated, because training can change state of a network outside its weights.

    Args:
        build: makes the untrained network.
        files: has the weights.
        trained: record of the training.
        evaluate: returns ``top1`` and ``loss``, as recorded.
        environment: of this run; in the same one the numbers must be equal.
    """
    content = files.read(weights_name(trained.key)) or b""
    if checksum(content) != trained.result.get("weights_sha256"):
        return None
    try:
        weights = safetensors.torch.load(content)
    except SafetensorError:
        return None
    network = build()
    load_tensors(network, weights)
    network.eval()
    found = finite(evaluate(network))  # as in a record
    found = {name: value for name, value in found.items() if name in trained.result}  # older records have no top-5
    recorded = {name: trained.result[name] for name in found}
    if _same(found, recorded, exactly=_without_commit(environment) == _without_commit(trained.environment)):
        return network
    changes = ", ".join(f"{name} {found[name]} instead of {recorded[name]}" for name in found)
    _logger.warning(
        "%s keeps state outside its weights that training changes (a buffer with persistent=False, for example): "
        "reloaded, it has %s, so it is trained again",
        trained.labels["model"],
        changes,
    )
    return None


def _same(found: Mapping[str, Any], recorded: Mapping[str, Any], exactly: bool) -> bool:
    if exactly or None in (*found.values(), *recorded.values()):
        return found == recorded
    return all(math.isclose(found[name], recorded[name], rel_tol=_ROUNDING, abs_tol=_ROUNDING) for name in found)


def _without_commit(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fact for name, fact in environment.items() if name != "commit"}  # the hash of the code is enough
