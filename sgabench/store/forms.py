"""The form of records from any source; malformed ones would only fail later, in a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Form = dict[str, tuple[type, ...]]
_TEXT, _WHOLE = (str,), (int,)
_LABELS: _Form = {"dataset": _TEXT, "model": _TEXT, "optimizer": _TEXT, "seed": _WHOLE, "group": _TEXT}
_LABELS_OF: dict[str, _Form] = {
    "trial": _LABELS,
    "cell": {**_LABELS, "pruner": _TEXT, "of": _TEXT, "ratio": (int, float)},
    "probe": {**_LABELS, "probe": _TEXT},
}
_ENVIRONMENT: _Form = {
    "packages": (dict,),
    "python": _TEXT,
    "cpu": _TEXT,
    "cores": _WHOLE,
    "threads": _WHOLE,
    "device": _TEXT,
}
_STATUSES = {"done", "failed", "diverged"}
_PLAIN = {int, float, bool, str, type(None)}
_OWN_COLUMNS = frozenset([*_LABELS_OF["cell"], "status", "key", "environment", "device"])  # in no result
_NUMBERS = frozenset((
    "top1", "top5", "loss", "retention", "sparsity", "compression_ratio", "theoretical_speedup", "measured_speedup",
    "latency_speedup", "params", "nonzero_params", "macs", "nonzero_macs", "bytes", "gzip_bytes", "images_per_s",
    "latency_s", "dense_images_per_s", "dense_latency_s", "classes", "test_images",
))  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Columns of dictionaries with the same names, the types in them, and the rows that they belong to."""

    rows: NDArray[np.intp]
    columns: Mapping[str, NDArray[Any]]
    types: Mapping[str, set[type]]


def is_context(environment: Mapping[str, Any]) -> bool:
    """Whether an environment has the fields that every record must have."""
    return (
        _has(environment, _ENVIRONMENT)
        and all(map(_is_plain, environment["packages"].values()))
        and all(_is_plain(value) for name, value in environment.items() if name != "packages")
    )


def fits(
    key: Any,
    kind: Any,
    parent: Any,
    status: Any,
    labels: Mapping[str, Any],
    result: Mapping[str, Any],
    error: Any,
    finished_at: Any,
) -> bool:
    """Whether a record is well formed, apart from its environment, which many records share."""
    return (
        kind in _LABELS_OF
        and status in _STATUSES
        and all(isinstance(text, str) for text in (key, parent or "", error))
        and _has(labels, _LABELS_OF[kind])
        and all(map(_is_plain, labels.values()))
        and _OWN_COLUMNS.isdisjoint(result)
        and all(map(_is_plain, result.values()))
        and not any(isinstance(result[name], str) for name in _NUMBERS & result.keys())
        and isinstance(finished_at, int | float)
        and math.isfinite(finished_at)
    )


def all_fit(kind: str, fields: Sequence[Sequence[Any]], labels: Iterable[Part], results: Iterable[Part]) -> bool:
    """Quickly check many records of a kind; False in case of doubt, when `fits` decides.

    Args:
        kind: trial, cell or probe.
        fields: their keys, kinds, parents, statuses, errors and times of finishing.
        labels, results: by column.
    """
    keys, kinds, parents, statuses, errors, times = fields
    return (
        set(kinds) == {kind}
        and set(statuses) <= _STATUSES
        and {*map(type, keys), *map(type, errors)} == {str}
        and {*map(type, parents)} <= {str, type(None)}
        and {*map(type, times)} == {float}
        and all(map(math.isfinite, times))
        and all(_all_plain(part) and _all_of_form(part.types, _LABELS_OF[kind]) for part in labels)
        and all(_all_plain(part) and _OWN_COLUMNS.isdisjoint(part.types) for part in results)
        and not any(str in part.types[name] for part in results for name in _NUMBERS & part.types.keys())
    )


def _all_of_form(types: Mapping[str, set[type]], form: _Form) -> bool:
    return all(name in types and types[name] <= set(allowed) for name, allowed in form.items())


def _all_plain(part: Part) -> bool:
    return all(
        _in_range(column)
        if column.dtype != object
        else part.types[name] <= _PLAIN and all(map(_is_plain, set(column.tolist())))
        for name, column in part.columns.items()
    )


def _in_range(column: NDArray[Any]) -> bool:
    return bool(float(column.min()) > -(2**63) and float(column.max()) < 2**63)  # never, if there is a NaN


def _has(values: Mapping[str, Any], form: _Form) -> bool:
    return all(isinstance(values.get(name), kinds) for name, kinds in form.items())


def _is_plain(value: Any) -> bool:
    """Whether a table can show a value: finite, without lone surrogates and control characters."""
    kind = type(value)
    if kind is float or kind is int:
        return bool(-(2**63) < value < 2**63)
    return value is None or kind is bool or (kind is str and value.isprintable())


def plain_numbers(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Numbers at the top level of a probe's result, as a result that tables can show."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(name, str)
        and name.isprintable()
        and name not in _OWN_COLUMNS
        and type(value) in (int, float)
        and _is_plain(value)
    }


def finite(values: Any) -> Any:
    """JSON values: numbers of NumPy and torch become Python's, infinity and NaN become None, at any depth.

    Raises:
        TypeError: something is not a JSON value.
    """
    if getattr(values, "shape", None) == () and callable(getattr(values, "item", None)):
        values = values.item()
    if isinstance(values, float):
        return float(values) if math.isfinite(values) else None
    if isinstance(values, Mapping):
        return {_name(key): finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    if values is None or isinstance(values, bool | int | str):
        return values
    raise TypeError(f"{type(values).__name__} cannot be stored; a number, a string, a list or a dictionary can")


def _name(key: Any) -> str:
    if not isinstance(key, str | int):
        raise TypeError(f"a dictionary with {type(key).__name__} among its keys cannot be stored; strings can")
    return str(key)
