"""The registries of plugins: what a suite can name, and where it comes from.

A plugin is a function. Its positional parameters are the context that sgabench passes, its keyword-only parameters are
the options of a suite: their annotations are checked, their defaults are shown by ``sgabench list`` and hashed into the
keys. The first line of its docstring describes it.

A registry is filled by decorators, by entry points of installed packages and by plugin files. Registering
a built-in must not import torch; its function may, when it is called.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from sgabench.errors import InputError, describe, shorten, similar, suggestion
from sgabench.plugins.networks import network_of
from sgabench.plugins.origins import BUILT_IN, Origin, origin_of
from sgabench.plugins.plugin import Plugin
from sgabench.plugins.sources import Beside, Sources, of_file, of_package, prepare

Factory = TypeVar("Factory", bound=Callable[..., Any])


_origin: ContextVar[Origin] = ContextVar("origin", default=BUILT_IN)


@cache  # every call reads the metadata of all installed packages
def _entry_points() -> Any:
    return importlib.metadata.entry_points()


class Registry:
    """The plugins of one kind, by name.

    A name is plain (``adam``) or begins with a source (``torch:AdamW``): a source is registered once for all names
    after its colon.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self.broken: dict[str, str] = {}
        self._plugins: dict[str, Plugin] = {}
        self._sources: dict[str, Plugin] = {}
        self._aliases: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._derived: tuple[Registry, Callable[[Plugin], Plugin]] | None = None
        self._loaded = False

    def register(self, name: str, *, revision: int = 1, **tags: Any) -> Callable[[Factory], Factory]:
        """Decorator: make a function nameable in suites.

        Args:
            name: in suites.
            revision: a number, at least 1, raised when the same options give other numbers.
            tags: facts about it. ``files``: files that it reads, relative to its own; ``fingerprint``: a function of
                the data folder and the options that identifies what else it reads. Both enter the keys.

        Raises:
            InputError: the name is taken by a plugin of another origin, or the declaration is invalid.
        """
        if ":" in name:
            raise InputError(f"{self.kind} {name!r}: a name must not contain a colon; use register_source for a source")
        return partial(self._add, self._plugins, name, tags, revision)

    def register_source(self, source: str, *, revision: int = 1, **tags: Any) -> Callable[[Factory], Factory]:
        """Decorator: make ``source:anything`` nameable.

        The function gets the part after the colon as its first positional argument.
        """
        return partial(self._add, self._sources, source, tags, revision)

    def register_alias(self, name: str, of: str, **preset: Any) -> None:
        """Make another name for a plugin with some options set; keys have the plugin's own name."""
        self._aliases[name] = (of, preset)

    def derive(self, parts: Registry, make: Callable[[Plugin], Plugin]) -> None:
        """Add to this registry what ``make`` makes of every plugin of another one."""
        self._derived = (parts, make)

    def _add(
        self, table: dict[str, Plugin], name: str, tags: Mapping[str, Any], revision: int, factory: Factory
    ) -> Factory:
        if type(revision) is not int or revision < 1:
            raise InputError(f"{self.kind} {name!r}: revision must be a positive integer, got {revision!r}")
        origin = _origin.get()
        if origin is BUILT_IN:
            origin = origin_of(factory)
        if "files" in tags:
            tags = {**tags, "files": _declared(f"{self.kind} {name!r}", tags["files"], origin.sources)}
        plugin = Plugin(self.kind, name, factory, origin, tags, revision)
        if plugin.origin is not BUILT_IN:
            plugin.check(is_source=table is self._sources)
        present = table.get(name)
        if present is None and self._derived is not None and plugin.origin is not BUILT_IN:
            present = self._derived[0]._plugins.get(name)
        if present is not None and present.origin.label != plugin.origin.label:
            raise InputError(
                f"{self.kind} {name!r} of {plugin.origin.label} is already registered by {present.origin.label}"
            )
        table[name] = plugin
        return factory

    def load(self) -> None:
        """Import the built-ins and the entry points of installed packages, once.

        A package that fails to import is recorded in `broken` and does not affect others.
        """
        if self._loaded:
            return
        self._loaded = True
        importlib.import_module(self.package)
        for point in _entry_points().select(group=self.package):
            distribution = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            token = _origin.set(Origin(distribution, find=partial(of_package, distribution, point.module)))
            try:
                loaded = point.load()
                if isinstance(loaded, types.ModuleType):
                    continue  # its decorators have registered its plugins
                if not callable(loaded):
                    raise TypeError(f"{point.value} is not a function")
                if point.name not in self._plugins:
                    self._add(self._plugins, point.name, {}, 1, loaded)
                elif self._plugins[point.name].factory is not loaded:
                    raise InputError(f"the name is taken by {self._plugins[point.name].origin.label}")
            except (Exception, SystemExit) as error:  # third-party code: whatever it raises, the rest must work
                self.broken[point.name] = f"plugin {point.name!r} of {distribution} failed to load: {describe(error)}"
            finally:
                _origin.reset(token)

    def __getitem__(self, name: str) -> Plugin:
        """The plugin of that name.

        Raises:
            InputError: no such name (the nearest are named), or its package failed to import.
        """
        self.load()
        source, colon, rest = name.partition(":")
        if colon and source in self._sources and rest:
            template = self._sources[source]
            factory = partial(template.factory, rest)
            return Plugin(self.kind, name, factory, template.origin, template.tags, template.revision)
        if name in self._plugins:
            return self._plugins[name]
        if name in self._aliases:
            of, preset = self._aliases[name]
            return replace(self[of], alias=name, preset=preset)
        if name in self.broken:
            raise InputError(self.broken[name])
        names = [*self._plugins, *self._aliases, *self.broken]
        if self._derived is not None:
            parts, make = self._derived
            parts.load()
            if name in parts or name in parts.broken:
                return make(parts[name])
            names += [*parts._plugins, *parts.broken]
        if colon:
            hint = suggestion(source, self._sources)
            if source.endswith(".py"):
                hint = f"; write '{Path(source).stem}:{rest}', and name the file with --plugin {source}"
            raise InputError(f"unknown {self.kind} source {source!r} in {name!r}{hint}")
        raise InputError(f"unknown {self.kind} {name!r}{self._meant(name, names)}")

    def _meant(self, name: str, names: Sequence[str]) -> str:
        """Suggestions for an unknown name: the same name in a source, a similar one, or all names."""
        offered: list[str] = []
        for source, plugin in sorted(self._sources.items()):
            with contextlib.suppress(Exception):  # in a library that lists them
                listed = plugin.tags["names"]()
                offered += [f"{source}:{known}" for known in listed if known.lower() == name.lower()]
        if offered:
            return f"; did you mean {' or '.join(map(repr, offered))}?"
        if near := similar(name, names):
            return near
        sources = [f"{source}:NAME" for source in sorted(self._sources)]
        listed = f"{', '.join(sources)}, and " if sources else ""
        return f"{suggestion(name, names)}; also {listed}what a plugin registers: --plugin FILE.py"

    def __contains__(self, name: str) -> bool:
        """Whether a plugin, or a source of it, is registered here under that name."""
        source, colon, rest = name.partition(":")
        return name in self._plugins or bool(colon and rest and source in self._sources)

    def plugins(self) -> list[Plugin]:
        """Everything with a plain name, in alphabetical order; aliases at the end."""
        self.load()
        names = set(self._plugins)
        if self._derived is not None:
            self._derived[0].load()
            names |= self._derived[0]._plugins.keys()
        return [self[name] for name in [*sorted(names), *sorted(self._aliases)]]

    def sources(self) -> list[Plugin]:
        """Every source; `Plugin.name` is the part before the colon."""
        self.load()
        return [self._sources[name] for name in sorted(self._sources)]


datasets = Registry("dataset", "sgabench.datasets")
models = Registry("model", "sgabench.models")
optimizers = Registry("optimizer", "sgabench.optimizers")
pruners = Registry("pruner", "sgabench.pruners")
probes = Registry("probe", "sgabench.probes")
scores = Registry("score", "sgabench.scores")

REGISTRIES = {registry.kind + "s": registry for registry in (datasets, models, optimizers, pruners, probes, scores)}
# Those with sections in suites: scores are named as pruners.
SECTIONS = {section: registry for section, registry in REGISTRIES.items() if registry is not scores}


def load_plugin_file(path: Path | str) -> None:
    """Run a Python file whose decorators register plugins; it can import modules beside it.

    Raises:
        InputError: the file is missing, is not a Python file, or raises an exception.
    """
    path = Path(path)
    for registry in REGISTRIES.values():
        registry.load()
    try:
        if path.suffix != ".py" and path.is_file():
            hint = f"; a suite is an argument: sgabench run {path}" if path.suffix == ".toml" else ""
            raise InputError(f"is not a Python file (.py){hint}")
        sources = of_file(path)
        prepare(sources, _files_in_use(but=sources.path))
    except OSError as error:
        raise InputError(f"--plugin {path}: {error.strerror or error}") from None
    except InputError as error:
        raise InputError(f"--plugin {path}: {error}") from None
    name = f"sgabench_plugin_{path.stem}_{hashlib.sha256(sources.source).hexdigest()[:16]}"
    module = types.ModuleType(name)
    module.__file__ = str(sources.path)
    sys.modules[name] = module
    token = _origin.set(Origin(path.name, sources))
    try:
        # Exactly the bytes that were hashed: an import could run a cached, older version.
        exec(compile(sources.source, str(sources.path), "exec"), module.__dict__)
        taken = models._sources.get(path.stem)
        if taken is None or taken.origin.label == path.name:  # a file timm.py must not replace the source, for example
            models.register_source(path.stem)(network_of(path.name, module))
    except InputError as error:
        del sys.modules[name]
        raise InputError(f"--plugin {path}: {error}") from None
    except (Exception, SystemExit) as error:  # the user's own code: whatever it raises is bad input here
        del sys.modules[name]
        raise InputError(f"--plugin {path}: {describe(error)}") from error
    finally:
        _origin.reset(token)


def _declared(where: str, files: Any, sources: Sources | None) -> dict[str, Path]:
    """The files that a plugin declares, by the names that it gives them."""
    folder = sources.folder if sources else Path()
    if isinstance(files, str | Path) or not all(isinstance(file, str | Path) for file in files):
        raise InputError(f"{where}: files must be a list of paths, got {shorten(files)}")
    return {str(file): folder / file for file in files}


def _files_in_use(but: Path | None = None) -> Iterator[Sources]:
    """The code of plugin files that are registered or being loaded."""
    tables = [table for registry in REGISTRIES.values() for table in (registry._plugins, registry._sources)]
    origins = [_origin.get(), *(plugin.origin for table in tables for plugin in table.values())]
    return (origin.file for origin in origins if origin.file is not None and origin.file.path != but)


sys.meta_path.insert(0, Beside(_files_in_use))
