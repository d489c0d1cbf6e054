"""Where plugins come from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sgabench.plugins.sources import Sources, of_script


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from.

    Attributes:
        label: what ``sgabench list`` shows.
        file: the code of a plugin file.
        find: finds the code of any other third party, on demand.
    """

    label: str
    file: Sources | None = None
    find: Callable[[], Sources] | None = None

    @cached_property
    def sources(self) -> Sources | None:
        """The code of a third-party plugin, as far as it is known."""
        return self.find() if self.find else self.file

    @property
    def code(self) -> str:
        """Identifies that code in keys, so that results of older code are not taken for those of this one."""
        return self.sources.code if self.sources else ""


BUILT_IN = Origin("built-in")


def origin_of(function: Any) -> Origin:
    """The origin of what neither an entry point nor a plugin file registers: built in, or a script or notebook."""
    module = str(getattr(function, "__module__", ""))
    if module.partition(".")[0] == "sgabench":
        return BUILT_IN
    try:
        path = Path(inspect.getsourcefile(function) or "")
    except TypeError:
        path = Path()
    if path.is_file():
        return Origin(path.name, find=lambda: of_script(path))
    return Origin(module, find=lambda: _of_text(module, function))


def _of_text(label: str, function: Any) -> Sources:
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = repr(function)
    return Sources(label, Path(), Path(label), text.encode())
