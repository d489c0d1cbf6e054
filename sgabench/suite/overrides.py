"""Apply `--set` to the data of a suite, before it is checked."""

from __future__ import annotations

import tomllib
from typing import Any

from sgabench.errors import InputError, suggestion
from sgabench.suite.rules import METRICS


def apply_override(data: dict[str, Any], override: str) -> None:
    """Apply one ``key=value`` of ``--set`` to a suite's data, in place.

    The key is a dotted path; an entry of an array is selected by its label, its name or its number (from 1). The value
    is TOML, or a string if it is not valid TOML.

    Raises:
        InputError: no ``=``, or a path that does not exist.
    """
    key, equals, text = override.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise InputError(f"--set {override}: must be KEY=VALUE, e.g. training.epochs=2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    targets: list[Any] = [data]
    for position, part in enumerate(path[:-1]):
        found = [child for target in targets for child in _children(target, part)]
        if not found:
            names = [name for target in targets for name in _names(target)]
            where = ".".join(path[: position + 1])
            raise InputError(f"--set {override}: there is no {where!r}{suggestion(part, names)}")
        targets = found
    for target in targets:
        if not isinstance(target, dict):
            raise InputError(f"--set {override}: {'.'.join(path[:-1])!r} has no keys of its own")
        target[path[-1]] = value


def _children(target: Any, part: str) -> list[Any]:
    if isinstance(target, dict):
        if part in ("training", "measurement", "sweep", "finetune", "distill", "schedule", "gate", *METRICS):
            return [target.setdefault(part, {})]
        return [target[part]] if part in target else []
    if isinstance(target, list):
        tables = [entry for entry in target if isinstance(entry, dict)]
        named = [entry for entry in tables if part in (entry.get("label"), entry.get("name"))]
        if not named and part.isdecimal() and 1 <= int(part) <= len(target):
            return [target[int(part) - 1]]
        return named
    return []


def _names(target: Any) -> list[str]:
    if isinstance(target, dict):
        return [str(key) for key in target]
    if isinstance(target, list):
        return [str(e.get("label") or e.get("name")) for e in target if isinstance(e, dict)]
    return []
