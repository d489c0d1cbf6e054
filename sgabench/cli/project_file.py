"""The table of a project file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sgabench.errors import InputError, first_problem


class ProjectTable(BaseModel):
    """The table of a project file; paths are relative to its folder."""

    model_config = ConfigDict(extra="forbid", strict=True)

    plugins: list[str] = Field(default=[])
    data_dir: str | None = Field(default=None, min_length=1)
    results: str | None = Field(default=None, min_length=1)


def read_table(table: Any, where: str) -> ProjectTable:
    """Check the table of a project file.

    Args:
        table: as TOML has it.
        where: it stands, for messages.

    Raises:
        InputError: it says what a project cannot say.
    """
    try:
        return ProjectTable.model_validate(table)
    except ValidationError as error:
        at, problem = first_problem(error, ProjectTable.model_fields)
        hint = "; a project file has plugins, data_dir and results" if "unknown" in problem else ""
        raise InputError(f"{where}: {'.'.join(map(str, at))}: {problem}{hint}") from None
