"""The context that each kind of plugin is passed by position; everything after the ``*`` is an option of a suite."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from sgabench.errors import InputError

CONTEXTS = {
    "dataset": ("data_dir", "download"),
    "model": ("spec",),
    "optimizer": ("parameters", "seed", "context"),
    "pruner": ("network", "ratio", "context"),
    "probe": ("network", "context"),
    "score": ("network", "context"),
}


def check_context(kind: str, name: str, function: Callable[..., Any], *, is_source: bool = False) -> None:
    """Refuse an option that would receive a part of the context because of a forgotten ``*``.

    The first part of the context may have any name, the others must have theirs, or one that starts with ``_``.

    Raises:
        InputError: with the correct line.
    """
    passed = (*(("name",) if is_source else ()), *CONTEXTS.get(kind, ()))
    free = 2 if is_source else 1
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

    def is_context(place: int, parameter: inspect.Parameter) -> bool:
        if place >= len(passed) or parameter.default is not parameter.empty:
            return False
        return place < free or parameter.name == passed[place] or parameter.name.startswith("_")

    wrong = [parameter for place, parameter in enumerate(positional) if not is_context(place, parameter)]
    if kind not in CONTEXTS or not wrong:
        return
    place = positional.index(wrong[0])
    gets = f"would be given the {passed[place]}" if place < len(passed) else "is passed nothing"
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
    where = f" (line {line})" if line else ""
    raise InputError(
        f"{kind} {name!r}{where}: {wrong[0].name!r} {gets}: sgabench passes ({', '.join(passed)}) by position, and "
        f"options come after a *; write: {_right_line(function, parameters, wrong)}"
    )


def _right_line(
    function: Callable[..., Any], parameters: list[inspect.Parameter], wrong: list[inspect.Parameter]
) -> str:
    first = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p not in wrong]
    options = [p.replace(kind=p.KEYWORD_ONLY) for p in wrong]
    rest = [p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    in_order = sorted([*first, *options, *rest], key=lambda p: p.kind)
    shown = [p.replace(annotation=_AsWritten(p.annotation)) if isinstance(p.annotation, str) else p for p in in_order]
    return f"def {getattr(function, '__name__', 'plugin')}{inspect.Signature(shown)}"


class _AsWritten:
    """An annotation that was not evaluated."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text
