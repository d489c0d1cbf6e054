"""A listing of what a suite can name, for the terminal."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgabench.plugins.plugin import Plugin
from sgabench.plugins.registry import Registry


def print_listing(registry: Registry, text: str) -> None:
    """Print name, description, parameters with defaults and origin of the plugins that contain a text."""
    rows = [(plugin.alias or plugin.name, plugin) for plugin in registry.plugins()]
    rows += [(f"{source.name}:NAME", source) for source in registry.sources()]
    view = Table(header_style="bold", pad_edge=False)
    for heading in ("name", "description", "parameters", "from"):
        view.add_column(heading, overflow="fold")
    for name, plugin in rows:
        description = _combination(plugin) if plugin.alias else plugin.description
        if text.lower() in f"{name} {description}".lower():
            cells = (name, description, "" if plugin.alias else _parameters(plugin), plugin.origin.label)
            view.add_row(*(Text(cell) for cell in cells))
    width = shutil.get_terminal_size((160, 24)).columns
    Console(file=sys.stdout, width=max(width, 80)).print(view if view.rows else Text("nothing matches"))


def _combination(plugin: Plugin) -> str:
    """The meaning of an alias."""
    options = ", ".join(f"{name} = {_as_toml(value)}" for name, value in plugin.preset.items())
    return f"Another name for {plugin.name} with {options}."


def _parameters(plugin: Plugin) -> str:
    lines = [_parameter(name, default) for name, default in plugin.parameters.items()]
    return "\n".join([*lines, "..."] if plugin.takes_any_option else lines)


def _parameter(name: str, default: Any) -> str:
    if default is ...:
        return f"{name} (required)"
    return f"{name} (optional)" if default is None else f"{name} = {_as_toml(default)}"


def _as_toml(value: Any) -> str:
    """A value as a suite has it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_as_toml(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_as_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str | bool) else repr(value)
