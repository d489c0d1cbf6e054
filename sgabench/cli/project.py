"""The project file: defaults of every command below its folder.

It is found from the working directory upwards, never from a suite's folder: a suite of a stranger cannot run code.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from sgabench.errors import InputError

OWN, SHARED = "sgabench.toml", "pyproject.toml"
MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Project:
    """The content of a project file; its paths are relative to its folder, those here to the working directory."""

    file: Path
    plugins: tuple[Path, ...] = ()
    data_dir: Path | None = None
    results: Path | None = None


def find_project() -> Project | None:
    """The project of the working directory.

    In a folder, ``sgabench.toml`` comes before the table ``[tool.sgabench]`` of ``pyproject.toml``. The file of another
    user is not used: it could run their code.

    Raises:
        InputError: the file is damaged, says what a project cannot say, or names a plugin file that is not there.
    """
    try:
        here = Path.cwd()
    except OSError:
        return None
    for folder in (here, *here.parents):
        for path in (folder / OWN, folder / SHARED):
            shown = Path(os.path.relpath(path, here))
            table = _read(path, shown) if path.is_file() else None
            if table is None:
                continue
            if not _is_trusted(path, here):
                typer.echo(f"warning: {shown} belongs to another user, and is not used", err=True)
                return None
            return _project(table, shown)
    return None


def _read(path: Path, shown: Path) -> Any:
    """The table of a project file; None: the file has none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{shown}: larger than 1 MB: not a project file")
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{shown}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown}: not a TOML file: {error}") from None
    if path.name == OWN:
        return data
    tools = data.get("tool")
    return tools.get("sgabench") if isinstance(tools, dict) else None


def _project(table: Any, file: Path) -> Project:
    where = f"{file}: [tool.sgabench]" if file.name == SHARED else str(file)
    from sgabench.cli.project_file import read_table  # pydantic takes a quarter of the time of --help

    settings = read_table(table, where)

    def below(text: str) -> Path:
        return Path(os.path.relpath(file.parent / text))

    plugins = tuple(map(below, settings.plugins))
    for plugin, text in zip(plugins, settings.plugins, strict=True):
        if not plugin.is_file():
            raise InputError(f"{where}: plugins: {text}: no such file")
    return Project(
        file,
        plugins,
        below(settings.data_dir) if settings.data_dir else None,
        below(settings.results) if settings.results else None,
    )


def _is_trusted(path: Path, here: Path) -> bool:
    """Whether its owner is the user, root, or the owner of the working directory, whose code is run anyway."""
    if not hasattr(os, "getuid"):
        return True
    return path.stat().st_uid in {os.getuid(), 0, here.stat().st_uid}


def with_plugins(given: Iterable[Path] | None) -> list[Path]:
    """The project's plugin files, then those of ``--plugin``, each once."""
    project = find_project()
    files = [*(project.plugins if project else ()), *(given or ())]
    different: dict[Path, Path] = {}
    for file in files:
        different.setdefault(file.resolve(), file)
    return list(different.values())


def _is_default(context: typer.Context, parameter: typer.CallbackParam) -> bool:
    source = context.get_parameter_source(parameter.name or "")
    return source is not None and source.name == "DEFAULT"


def or_results(context: typer.Context, parameter: typer.CallbackParam, value: Path) -> Path:
    """The project's results folder, if no other one is given."""
    project = find_project() if _is_default(context, parameter) else None
    return project.results if project and project.results else value


def or_data(context: typer.Context, parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """The project's data folder, if no other one is given."""
    project = find_project() if _is_default(context, parameter) else None
    return project.data_dir if project and project.data_dir else value
