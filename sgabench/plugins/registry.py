"""Plugins: what a suite can name, and where it comes from.

A plugin is a function. Its positional parameters are the context that sgabench passes, its
keyword-only parameters are what a suite may set: their annotations are checked, their defaults are
shown by ``sgabench list`` and hashed into the keys. Its docstring's first line describes it.

A registry is filled by decorators, by entry points of installed packages and by plugin files. The
registration of a built-in must not import torch; its function may, when it is called.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from sgabench.errors import InputError, describe, first_problem, foreign, shorten, suggestion
from sgabench.plugins.context import check_context
from sgabench.plugins.finite import is_finite
from sgabench.plugins.origins import BUILT_IN, Origin, origin_of
from sgabench.plugins.sources import Beside, Sources, of_file, of_package, prepare

Factory = TypeVar("Factory", bound=Callable[..., Any])


_origin: ContextVar[Origin] = ContextVar("origin", default=BUILT_IN)


@dataclass(frozen=True)
class Plugin:
    """One thing that a suite can name.

    Attributes:
        kind: the registry's name, singular: dataset, model, optimizer, pruner, probe or score.
        name: how a suite names it.
        factory: the registered function.
        origin: where it comes from.
        tags: facts that the registration states, such as what a probe looks at.
        revision: raised when the same options give other numbers; part of the keys.
        alias: the other name by which it was asked for, which sets options; in no key.
        preset: the options that the alias sets.
    """

    kind: str
    name: str
    factory: Callable[..., Any]
    origin: Origin
    tags: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 1
    alias: str = ""
    preset: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self._function) or "").split("\n", 1)[0]

    @property
    def _function(self) -> Any:
        return self.factory.func if isinstance(self.factory, partial) else self.factory

    @cached_property
    def _options(self) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        extra = "forbid"
        signature = inspect.signature(self._function).parameters.values()
        declared = [parameter for parameter in signature if parameter.kind is parameter.KEYWORD_ONLY]
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature):
            extra = "allow"
        # Of the options only: what the context is annotated with may be imported for type checkers alone.
        written = {p.name: p.annotation for p in declared if p.annotation is not p.empty}
        hints = get_type_hints(
            types.SimpleNamespace(__annotations__=written),
            getattr(self._function, "__globals__", {}),
            include_extras=True,
        )
        for parameter in declared:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
        config = ConfigDict(extra=extra, strict=False, protected_namespaces=(), validate_default=True)  # type: ignore[typeddict-item]
        return create_model(self.name, __config__=config, **fields)

    @property
    def parameters(self) -> dict[str, Any]:
        """Name and default of everything that a suite can set (``...``: required)."""
        fields: Mapping[str, FieldInfo] = self._options.model_fields
        return {name: ... if info.is_required() else info.default for name, info in fields.items()}

    @property
    def takes_any_option(self) -> bool:
        """Whether options are checked by what is built rather than by declared parameters."""
        return self._options.model_config.get("extra") == "allow"

    def check(self, *, is_source: bool = False) -> None:
        """Look at what a third party declares.

        Raises:
            InputError: not a function, an option where the context is passed, an annotation that means nothing, a
                default that is not data.
        """
        where = f"{self.kind} {self.name!r} of {self.origin.label}"
        if not callable(self.factory):
            raise InputError(f"{where}: {shorten(self.factory)} is not a function")
        check_context(self.kind, self.name, self.factory, is_source=is_source)
        with foreign(f"{where}: its parameters cannot be options of a suite: "):
            defaults = {name: value for name, value in self.parameters.items() if value is not ...}
            TypeAdapter(dict[str, Any]).dump_json(defaults)
            if not is_finite(defaults):
                raise ValueError("a default is not finite")

    def resolve(self, options: Mapping[str, Any], also_valid: Iterable[str] = ()) -> dict[str, Any]:
        """Check options and fill in the defaults.

        Args:
            options: what a suite sets.
            also_valid: keys beside the options that an unknown one may have been meant for.

        Returns:
            Every option, as JSON values, in the order of declaration; without those that the plugin declares to have
            been added later (its tag ``added``) where they have their default, so that keys stay.

        Raises:
            InputError: an unknown or an invalid option; the message starts with its name.
        """
        options = self._with_preset(options)
        for name, value in options.items():
            if not is_finite(value):
                raise InputError(f"{name}: must be finite, got {shorten(value)} ({self.kind} {self.name!r})")
        try:
            checked = self._options.model_validate(dict(options))
        except ValidationError as error:
            path, problem = first_problem(error, [*self._options.model_fields, *also_valid])
            where = ".".join(str(part) for part in path)
            raise InputError(f"{where}: {problem} ({self.kind} {self.name!r})") from None
        try:
            added = [name for name in self.tags.get("added", ()) if getattr(checked, name) == self.parameters[name]]
            return dict(checked.model_dump(mode="json", exclude=set(added)))
        except (ValueError, RecursionError):
            raise InputError(f"options of {self.kind} {self.name!r}: nested too deeply, or not data") from None

    def _with_preset(self, options: Mapping[str, Any]) -> dict[str, Any]:
        for name in self.preset.keys() & options.keys():
            raise InputError(f"{name}: is set by {self.alias!r}; name {self.name!r} to set it otherwise")
        return {**self.preset, **options}

    def check_use(self, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Look at what a suite does with it, beside its options.

        Args:
            options: resolved.
            settings: the other keys of the entry.

        Raises:
            InputError: options and settings do not go together.
        """

    def build(self, /, *context: Any, **options: Any) -> Any:
        """Call the plugin.

        Args:
            context: what sgabench provides; a plugin that declares fewer positional parameters gets
                the first ones.
            options: what the suite sets.
        """
        parameters = inspect.signature(self.factory).parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        takes_all = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        given = context if takes_all else context[: len(positional)]
        checked = self._options.model_validate(options)
        values = {name: getattr(checked, name) for name in type(checked).model_fields}
        return self.factory(*given, **values, **(checked.model_extra or {}))


class Registry:
    """The plugins of one kind, by name.

    A name is plain (``adam``) or has a source in front (``torch:AdamW``): a source is registered
    once and answers for every name behind its colon.
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
            name: how suites name it.
            revision: a number from 1 on, raised when the same options give other numbers.
            tags: facts about it. ``files``: files that it reads, relative to its own; ``fingerprint``: a function of
                the data folder and the options that identifies what else it reads. Both enter the keys.

        Raises:
            InputError: the name is taken by a plugin from elsewhere, or what is declared cannot be.
        """
        if ":" in name:
            raise InputError(f"{self.kind} {name!r}: a name has no colon; use register_source for a source")
        return partial(self._add, self._plugins, name, tags, revision)

    def register_source(self, source: str, *, revision: int = 1, **tags: Any) -> Callable[[Factory], Factory]:
        """Decorator: make ``source:anything`` nameable.

        The function gets the part behind the colon as its first positional argument.
        """
        return partial(self._add, self._sources, source, tags, revision)

    def register_alias(self, name: str, of: str, **preset: Any) -> None:
        """Make another name for a plugin with some options set; keys have the plugin's own name."""
        self._aliases[name] = (of, preset)

    def derive(self, parts: Registry, make: Callable[[Plugin], Plugin]) -> None:
        """Let every plugin of another registry be one of this one, too, as what is made of it."""
        self._derived = (parts, make)

    def _add(
        self, table: dict[str, Plugin], name: str, tags: Mapping[str, Any], revision: int, factory: Factory
    ) -> Factory:
        if type(revision) is not int or revision < 1:
            raise InputError(f"{self.kind} {name!r}: revision must be a whole number from 1 on, got {revision!r}")
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
        """Import the built-ins and what installed packages declare as entry points, once.

        A package that fails to import is remembered in `broken` and disturbs nothing else.
        """
        if self._loaded:
            return
        self._loaded = True
        importlib.import_module(self.package)
        for point in importlib.metadata.entry_points(group=self.package):
            distribution = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            token = _origin.set(Origin(distribution, find=partial(of_package, distribution, point.module)))
            try:
                loaded = point.load()
                if isinstance(loaded, types.ModuleType):
                    continue  # its decorators have registered what it offers
                if not callable(loaded):
                    raise TypeError(f"{point.value} is not a function")
                if point.name not in self._plugins:
                    self._add(self._plugins, point.name, {}, 1, loaded)
                elif self._plugins[point.name].factory is not loaded:
                    raise InputError(f"the name is taken by {self._plugins[point.name].origin.label}")
            except (Exception, SystemExit) as error:  # somebody else's code: whatever it raises, the rest must work
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
            raise InputError(f"unknown {self.kind} source {source!r} in {name!r}{hint}")
        raise InputError(f"unknown {self.kind} {name!r}{suggestion(name, names)}")

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
        """Every source; `Plugin.name` is what stands before the colon."""
        self.load()
        return [self._sources[name] for name in sorted(self._sources)]


datasets = Registry("dataset", "sgabench.datasets")
models = Registry("model", "sgabench.models")
optimizers = Registry("optimizer", "sgabench.optimizers")
pruners = Registry("pruner", "sgabench.pruners")
probes = Registry("probe", "sgabench.probes")
scores = Registry("score", "sgabench.scores")

REGISTRIES = {registry.kind + "s": registry for registry in (datasets, models, optimizers, pruners, probes, scores)}
# What a suite has sections for: a score is named as a pruner.
SECTIONS = {section: registry for section, registry in REGISTRIES.items() if registry is not scores}


def load_plugin_file(path: Path) -> None:
    """Run a Python file whose decorators register plugins; it can import modules that lie beside it.

    Raises:
        InputError: the file is missing, is no Python file, or raises when it is run.
    """
    for registry in REGISTRIES.values():
        registry.load()
    try:
        if path.suffix != ".py" and path.is_file():
            hint = f"; a suite is an argument: sgabench run {path}" if path.suffix == ".toml" else ""
            raise InputError(f"is no Python file (.py){hint}")
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
        # Just the bytes that were hashed: an import could run a cached, older version.
        exec(compile(sources.source, str(sources.path), "exec"), module.__dict__)
    except InputError as error:
        del sys.modules[name]
        raise InputError(f"--plugin {path}: {error}") from None
    except (Exception, SystemExit) as error:  # the user's own code: whatever it raises is bad input here
        del sys.modules[name]
        raise InputError(f"--plugin {path}: {describe(error)}") from error
    finally:
        _origin.reset(token)


def _declared(where: str, files: Any, sources: Sources | None) -> dict[str, Path]:
    """The files that a plugin reads, by the names that it gives them."""
    folder = sources.folder if sources else Path()
    if isinstance(files, str | Path) or not all(isinstance(file, str | Path) for file in files):
        raise InputError(f"{where}: files must be a list of paths, got {shorten(files)}")
    return {str(file): folder / file for file in files}


def _files_in_use(but: Path | None = None) -> Iterator[Sources]:
    """The code of the plugin files that are registered, or being loaded."""
    tables = [table for registry in REGISTRIES.values() for table in (registry._plugins, registry._sources)]
    origins = [_origin.get(), *(plugin.origin for table in tables for plugin in table.values())]
    return (origin.file for origin in origins if origin.file is not None and origin.file.path != but)


sys.meta_path.insert(0, Beside(_files_in_use))
