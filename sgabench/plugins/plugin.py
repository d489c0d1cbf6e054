"""A plugin: something that a suite can name, with checked options."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from sgabench.errors import InputError, dotted, first_problem, foreign, shorten
from sgabench.plugins.context import check_context
from sgabench.plugins.finite import is_finite
from sgabench.plugins.origins import BUILT_IN, Origin
from sgabench.plugins.reading import files_read


@dataclass(frozen=True)
class Plugin:
    """Something that a suite can name.

    Attributes:
        kind: the registry's name, singular: dataset, model, optimizer, pruner, probe or score.
        name: its name in suites.
        factory: the registered function.
        origin: where it comes from.
        tags: facts stated by the registration, such as what a probe looks at.
        revision: raised when the same options give other numbers; part of the keys.
        alias: the other name by which it was requested, which sets options; in no key.
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
        # Only of the options: the context's annotations may be imported only for type checkers.
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
        """Whether options are checked by the object that is built, not by declared parameters."""
        return self._options.model_config.get("extra") == "allow"

    def check(self, *, is_source: bool = False) -> None:
        """Check a third party's declaration.

        Raises:
            InputError: not a function, an option in place of the context, an invalid annotation, a default that is not
                data.
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
            also_valid: other valid keys, to suggest for an unknown option.

        Returns:
            Every option, as JSON values, in the order of declaration; without those declared as added later (tag
            ``added``) that have their default, so that keys stay the same.

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
            raise InputError(f"{dotted(path)}: {problem} ({self.kind} {self.name!r})") from None
        try:
            added = [name for name in self.tags.get("added", ()) if getattr(checked, name) == self.parameters[name]]
            return dict(checked.model_dump(mode="json", exclude=set(added)))
        except (ValueError, RecursionError):
            raise InputError(f"options of {self.kind} {self.name!r}: nested too deeply, or not data") from None

    def _with_preset(self, options: Mapping[str, Any]) -> dict[str, Any]:
        for name in self.preset.keys() & options.keys():
            raise InputError(f"{name}: is set by {self.alias!r}; name {self.name!r} to change it")
        return {**self.preset, **options}

    def check_use(self, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Check the rest of a suite's entry, beside its options.

        Args:
            options: resolved.
            settings: the other keys of the entry.

        Raises:
            InputError: options and settings conflict; or raised by the tag ``check`` for the options.
        """
        if "check" in self.tags:
            self.tags["check"](self.name, options)

    def build(self, /, *context: Any, **options: Any) -> Any:
        """Call the plugin.

        Args:
            context: provided by sgabench; a plugin that declares fewer positional parameters gets the first ones.
            options: set by the suite.

        Raises:
            InputError: a third party's plugin has read a file that it does not declare.
        """
        parameters = inspect.signature(self.factory).parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        takes_all = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        given = context if takes_all else context[: len(positional)]
        checked = self._options.model_validate(options)
        values = {name: getattr(checked, name) for name in type(checked).model_fields}
        values |= checked.model_extra or {}
        if self.origin is BUILT_IN or "fingerprint" in self.tags:
            return self.factory(*given, **values)
        known = [*self.tags.get("files", {}).values(), *(context[:1] if self.kind == "dataset" else ())]
        with files_read(known) as read:
            made = self.factory(*given, **values)
        if read:
            self._refuse(read[0])
        return made

    def _refuse(self, file: Path) -> NoReturn:
        folder = self.origin.sources.folder if self.origin.sources else Path()
        inside = file.is_relative_to(folder.resolve())
        name = file.relative_to(folder.resolve()).as_posix() if inside else str(file)
        raise InputError(
            f"{self.kind} {self.name!r} reads {name} without declaring it: results would not follow its changes; "
            f"register it with files=[{name!r}], or with a fingerprint where an option names the file"
        )
