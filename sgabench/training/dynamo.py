"""`torch._dynamo`, imported when something is compiled, and not because an optimizer is made.

Every optimizer of torch calls ``torch._dynamo.disable`` where it is made, and ``graph_break`` in each step. Both do
nothing where nothing is compiled, but the import takes as long as that of torch itself. `postpone_dynamo` puts a module
in its place that answers these two calls as torch's own code makes them. Whatever else is asked of it, or any module of
the package imported, the real one is imported and takes its place for good.
"""

from __future__ import annotations

import importlib
import sys
import threading
import weakref
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

NAME = "torch._dynamo"
# Where torch keeps what `disable` gave for a function (torch/_compile.py); it asks again when there is nothing.
_KEPT = "__dynamo_disable"


def postpone_dynamo() -> None:
    """Keep optimizers from importing `torch._dynamo`; not if it is imported already, or this torch works otherwise."""
    if NAME in sys.modules or _KEPT not in _constants(getattr(torch, "_disable_dynamo", None)):
        return
    package = _Postponed()
    sys.meta_path.insert(0, package.modules)
    sys.modules[NAME] = package
    vars(torch)["_dynamo"] = package  # as an import would


def _constants(function: Any) -> set[Any]:
    """What the code of a function, and of those that it defines, has as constants."""
    found, left = set(), [getattr(function, "__code__", None)]
    while left:
        for constant in getattr(left.pop(), "co_consts", ()):
            if hasattr(constant, "co_consts"):
                left.append(constant)
            else:
                found.add(constant)
    return found


class _Postponed(ModuleType):
    """Stands in place of the package until it is needed."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.__path__ = [f"{folder}/_dynamo" for folder in torch.__path__]
        self.modules = _Modules(self)
        # Not methods, so that `real` can replace them.
        self.disable = self._disable
        self.graph_break = _graph_break
        self._given: weakref.WeakSet[Any] = weakref.WeakSet()
        self._swapping = threading.Lock()

    def _disable(self, fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        if fn is None or options != {"wrapping": False}:  # nobody but torch/_compile.py calls it like that
            return self.real().disable(fn, recursive, **options)
        self._given.add(fn)
        return fn

    def real(self) -> Any:
        """Import the package; nothing is left of what stood in its place."""
        with self._swapping:
            if sys.modules.get(NAME) is self:
                sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self.modules]
                vars(torch).pop("_dynamo", None)
                del sys.modules[NAME]
                for function in self._given:
                    vars(function).pop(_KEPT, None)
        package = importlib.import_module(NAME)
        vars(self).update(vars(package))  # for who holds this one
        return package

    def __getattr__(self, name: str) -> Any:
        # Who looks through all modules asks each for such names; __all__ is for ``import *``.
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        return getattr(self.real(), name)


def _graph_break(msg: str = "") -> None:
    pass


class _Modules(MetaPathFinder, Loader):
    """Imports a module of the package as Python does: the package first, which imports most of them itself."""

    def __init__(self, package: _Postponed) -> None:
        self._package = package
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """That this imports what is below the package."""
        return ModuleSpec(fullname, self) if fullname.startswith(f"{NAME}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import it."""
        self._package.real()
        module = importlib.import_module(spec.name)
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It is executed; what the import system has noted on it is undone."""
        vars(module)["__spec__"] = self._specs[module.__name__]  # some of them refuse to be assigned to
