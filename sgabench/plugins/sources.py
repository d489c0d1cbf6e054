"""The code of a plugin: its file, and the modules beside it that it imports.

Imports are found in its text, so that keys are known before anything runs. A module beside a plugin file is run from
exactly the bytes that were hashed: Python's own import could run a cached, older version.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from sgabench.errors import InputError
from sgabench.plugins.meaning import meaning

_DYNAMIC = ("import_module", "__import__")  # called with a literal name


@dataclass(frozen=True)
class Module:
    """A module: its file (for a folder without ``__init__.py``, the folder) and its text."""

    path: Path
    source: bytes
    is_package: bool


@dataclass(frozen=True)
class Sources:
    """The code of a plugin.

    Attributes:
        label: the plugin file's name, or a package and its version.
        folder: that declared files are relative to.
        path: the plugin file; None for a package.
        source: its text.
        modules: that it imports from its folder or its own package, by name.
    """

    label: str
    folder: Path
    path: Path | None = None
    source: bytes = b""
    modules: Mapping[str, Module] = field(default_factory=dict)

    @cached_property
    def code(self) -> str:
        """Identifies the code in keys; comments and docstrings do not change it."""
        own = meaning(self.source) if self.path else self.label
        beside = [f"{name} {meaning(module.source)}" for name, module in sorted(self.modules.items()) if module.source]
        return own if not beside else hashlib.sha256("\n".join([own, *beside]).encode()).hexdigest()[:16]

    @property
    def beside(self) -> list[str]:
        """The files of the modules, relative to the folder."""
        paths = (module.path for module in self.modules.values() if module.path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in paths)


def of_file(path: Path) -> Sources:
    """The code of a plugin file and of the modules that it imports from its folder.

    Raises:
        OSError: it cannot be read.
        InputError: it imports a name that exists both beside it and installed.
    """
    folder = path.resolve().parent
    source = path.read_bytes()
    modules = _reached(_imports(source, ""), folder, lambda top: top != "sgabench")
    for top in sorted({name.partition(".")[0] for name in modules}):
        if installed := _installed(top, folder):
            raise InputError(f"imports {top!r}, which is beside it and also {installed}; rename the one beside it")
    return Sources(path.name, folder, path.resolve(), source, modules)


def of_script(path: Path) -> Sources:
    """The code of a file that Python itself has imported, and of the modules that it imports from its folder."""
    folder, source = path.resolve().parent, path.read_bytes()
    modules = _reached(_imports(source, ""), folder, lambda top: top not in sys.stdlib_module_names | {"sgabench"})
    return Sources(path.name, folder, path.resolve(), source, modules)


def of_package(label: str, module: str) -> Sources:
    """The code of an installed package, as far as one of its modules imports it.

    Args:
        label: the package and its version.
        module: of its plugins.
    """
    top = module.partition(".")[0]
    spec = importlib.util.find_spec(top)
    places = list(spec.submodule_search_locations or ()) if spec else []
    place = Path(places[0]) if places else Path(spec.origin) if spec and spec.origin else None
    if place is None:
        return Sources(label, Path())
    return Sources(label, place.parent, modules=_reached([module], place.parent, lambda name: name == top))


def _reached(names: Iterable[str], root: Path, wanted: Callable[[str], bool]) -> dict[str, Module]:
    """Modules below a folder, by name, with all that they import from below it."""
    found: dict[str, Module] = {}
    left = list(names)
    while left:
        name = left.pop()
        top, *_ = parts = name.split(".")
        if not wanted(top):
            continue
        for number in range(1, len(parts) + 1):
            prefix = ".".join(parts[:number])
            if prefix in found:
                continue
            module = _module(root.joinpath(*parts[:number]))
            if module is None:
                break
            found[prefix] = module
            left += _imports(module.source, prefix if module.is_package else prefix.rpartition(".")[0])
    # A folder without __init__.py counts as a package only if something is imported from it.
    used = {name for name, module in found.items() if module.source or module.path.is_file()}
    return {name: module for name, module in found.items() if any(f"{other}.".startswith(f"{name}.") for other in used)}


def _module(place: Path) -> Module | None:
    """The module at a path without suffix."""
    for path, is_package in ((place / "__init__.py", True), (place.with_name(f"{place.name}.py"), False)):
        if path.is_file():
            return Module(path, path.read_bytes(), is_package)
    return Module(place, b"", True) if place.is_dir() else None


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Names of possible modules that a text imports, including those in functions.

    Args:
        source: the text.
        package: that relative imports are relative to.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # running it will raise the error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in _DYNAMIC and isinstance(name := node.args[0].value, str) and not name.startswith("."):
                yield name


def _installed(name: str, folder: Path) -> str | None:
    """Where else a module of that name would come from; None: nowhere."""
    if name in sys.stdlib_module_names:
        return "a module of Python"
    for finder in sys.meta_path:
        if isinstance(finder, Beside) or not hasattr(finder, "find_spec"):
            continue
        spec = finder.find_spec(name, None)
        if spec is not None and spec.origin and not Path(spec.origin).resolve().is_relative_to(folder):
            return "installed"
    return None


class Beside(MetaPathFinder):
    """Imports modules beside plugin files from the bytes that were hashed.

    Args:
        in_use: the code of plugins that are registered or being loaded.
    """

    def __init__(self, in_use: Callable[[], Iterable[Sources]]) -> None:
        self._in_use = in_use

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module, if a plugin file imports it from its folder."""
        for sources in self._in_use():
            module = sources.modules.get(fullname) if sources.path else None
            if module is not None:
                return _spec(fullname, module)
        return None


def prepare(sources: Sources, others: Iterable[Sources]) -> None:
    """Prepare the import of modules beside a plugin file: those of an earlier version are removed.

    Raises:
        InputError: another plugin file has a module of the same name beside it.
    """
    for other in others:
        for name, module in sources.modules.items():
            if other.path and name in other.modules and other.modules[name].path != module.path:
                raise InputError(
                    f"imports {name!r} from beside it, and {other.label} imports a different one; rename one of them"
                )
    if any(_is_another(name, module) for name, module in sources.modules.items()):
        for name in sources.modules:
            sys.modules.pop(name, None)


def _is_another(name: str, module: Module) -> bool:
    loaded = sys.modules.get(name)
    return loaded is not None and getattr(loaded.__spec__, "loader_state", None) != module


def _spec(name: str, module: Module) -> ModuleSpec:
    spec = ModuleSpec(name, _FromBytes(module), origin=str(module.path), is_package=module.is_package)
    spec.loader_state = module
    spec.has_location = module.path.is_file()
    if module.is_package:
        spec.submodule_search_locations = [str(module.path.parent if module.path.is_file() else module.path)]
    return spec


class _FromBytes(Loader):
    def __init__(self, module: Module) -> None:
        self._module = module

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._module.source, str(self._module.path), "exec", dont_inherit=True), module.__dict__)
