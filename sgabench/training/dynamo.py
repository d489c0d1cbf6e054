"""A stand-in for `torch._dynamo`, so that trainings do not import it.

torch.optim calls ``torch._dynamo.disable`` when an optimizer is created, and ``graph_break`` in each step. In eager
mode both do nothing, but importing the package takes as long as importing torch. The stand-in answers these two calls,
as torch's own code makes them. Any other attribute, or the import of a submodule, imports the real package, which
replaces the stand-in permanently.
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
# The attribute in which torch/_compile.py caches what `disable` returned for a function.
_KEPT = "__dynamo_disable"


def postpone_dynamo() -> None:
    """Install the stand-in, unless the package is imported already or this version of torch caches differently."""
    if NAME in sys.modules or _KEPT not in _constants(getattr(torch, "_disable_dynamo", None)):
        return
    package = _Postponed()
    sys.meta_path.insert(0, package.modules)
    sys.modules[NAME] = package
    vars(torch)["_dynamo"] = package  # as an import would


def _constants(function: Any) -> set[Any]:
    """Constants in the code of a function and of the functions it defines."""
    found, left = set(), [getattr(function, "__code__", None)]
    while left:
        for constant in getattr(left.pop(), "co_consts", ()):
            if hasattr(constant, "co_consts"):
                left.append(constant)
            else:
                found.add(constant)
    return found


class _Postponed(ModuleType):
    """The stand-in."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.__path__ = [f"{folder}/_dynamo" for folder in torch.__path__]
        self.modules = _Modules(self)
        # Attributes, not methods, so that `real` can replace them.
        self.disable = self._disable
        self.graph_break = _graph_break
        self._given: weakref.WeakSet[Any] = weakref.WeakSet()
        self._swapping = threading.Lock()

    def _disable(self, fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        if fn is None or options != {"wrapping": False}:  # only torch/_compile.py calls it like that
            return self.real().disable(fn, recursive, **options)
        self._given.add(fn)
        return fn

    def real(self) -> Any:
        """Import the package and remove all traces of the stand-in."""
        with self._swapping:
            if sys.modules.get(NAME) is self:
                sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self.modules]
                vars(torch).pop("_dynamo", None)
                del sys.modules[NAME]
                for function in self._given:
                    vars(function).pop(_KEPT, None)
        package = importlib.import_module(NAME)
        vars(self).update(vars(package))  # for whoever keeps a reference to the stand-in
        return package

    def __getattr__(self, name: str) -> Any:
        # Code that inspects all modules asks for such names; __all__ is needed for ``import *``.
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        return getattr(self.real(), name)


def _graph_break(msg: str = "") -> None:
    pass


class _Modules(MetaPathFinder, Loader):
    """Imports a submodule as Python does: the package first, which imports most submodules itself."""

    def __init__(self, package: _Postponed) -> None:
        self._package = package
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for any submodule of the package."""
        return ModuleSpec(fullname, self) if fullname.startswith(f"{NAME}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the submodule in the usual way."""
        self._package.real()
        module = importlib.import_module(spec.name)
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec; the module was executed already."""
        vars(module)["__spec__"] = self._specs[module.__name__]  # config modules refuse setattr
