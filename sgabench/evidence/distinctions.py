"""How entries with the same label differ: their options, in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

MOST = 3  # options that a label names
MOST_CHARACTERS = 24  # of a value
FIRST = ("optimizer", "model", "dataset")
WRAPPERS = {"options", "training"}  # names that add nothing to the option inside
IGNORED = {"label", "seed", "ratio"}


def distinctions(descriptions: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """A short text for each key, such as ``(epochs=5)``: what its description has and the others have not.

    Args:
        descriptions: description of each key.

    Returns:
        Distinct texts; where a few words are not enough, with the beginning of the key.
    """
    flat = {key: dict(_flatten(_ordered(description))) for key, description in descriptions.items()}
    paths = dict.fromkeys(path for values in flat.values() for path in values)
    differing = [path for path in paths if len({json.dumps(values.get(path)) for values in flat.values()}) > 1]
    named = Counter(_name(path) for path in differing)
    texts = {}
    for key, values in flat.items():
        parts = [
            f"{_name(path) if named[_name(path)] == 1 else _whole_name(path)}={_plain(values[path])}"
            for path in differing[:MOST]
            if path in values
        ]
        texts[key] = [*parts, "..."] if len(differing) > MOST else parts
    twice = {text for text, count in Counter(map(tuple, texts.values())).items() if count > 1}
    shown = {}
    for key, text in texts.items():
        parts = [*text, key[:6]] if tuple(text) in twice or "..." in text else text
        shown[key] = f" ({', '.join(parts)})" if parts else ""
    return shown


def _ordered(description: Mapping[str, Any]) -> dict[str, Any]:
    first = [name for name in FIRST if name in description]
    return {name: description[name] for name in (*first, *(name for name in description if name not in FIRST))}


def _flatten(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            if path or name not in IGNORED:
                yield from _flatten(part, (*path, str(name)))
    else:
        yield path, value


def _name(path: tuple[str, ...]) -> str:
    return ".".join([part for part in path if part not in {*WRAPPERS, *FIRST}] or path[-1:])


def _whole_name(path: tuple[str, ...]) -> str:
    return ".".join(part for part in path if part not in WRAPPERS)


def _plain(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    shown = " ".join("".join(c if c.isprintable() and c not in "/" else " " for c in text).split())
    return shown if len(shown) <= MOST_CHARACTERS else shown[: MOST_CHARACTERS - 1] + "…"
