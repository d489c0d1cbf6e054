"""What every record has, wherever it comes from; what lacks it would only fail later, in a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgabench.store import Record

_Form = dict[str, type | tuple[type, ...]]
_LABELS: _Form = {"dataset": str, "model": str, "optimizer": str, "seed": int, "group": str}
_LABELS_OF: dict[str, _Form] = {
    "trial": _LABELS,
    "cell": {**_LABELS, "pruner": str, "of": str, "ratio": (int, float)},
    "probe": {**_LABELS, "probe": str},
}
_ENVIRONMENT: _Form = {"packages": dict, "python": str, "cpu": str, "cores": int, "threads": int, "device": str}
_OWN_COLUMNS = frozenset([*_LABELS_OF["cell"], "status", "key", "environment", "device"])  # no result's name
_NUMBERS = frozenset((
    "top1", "loss", "retention", "sparsity", "compression_ratio", "theoretical_speedup", "measured_speedup",
    "latency_speedup", "params", "nonzero_params", "macs", "nonzero_macs", "bytes", "gzip_bytes", "images_per_s",
    "latency_s", "dense_images_per_s", "dense_latency_s", "classes", "test_images",
))  # fmt: skip


def well_formed(record: Record) -> bool:
    """Whether a record has the labels and the context that tables are made of, and numbers where they are numbers."""
    return is_context(record.environment) and fits(record)


def is_context(environment: Mapping[str, Any]) -> bool:
    """Whether an environment says what every record must say of where it was made."""
    return (
        _has(environment, _ENVIRONMENT)
        and all(map(_is_plain, environment["packages"].values()))
        and all(_is_plain(value) for name, value in environment.items() if name != "packages")
    )


def fits(record: Record) -> bool:
    """Whether a record is well formed but for its environment, which many records share."""
    return (
        record.kind in _LABELS_OF
        and record.status in ("done", "failed", "diverged")
        and all(isinstance(text, str) for text in (record.key, record.parent or "", record.error))
        and _has(record.labels, _LABELS_OF[record.kind])
        and all(map(_is_plain, record.labels.values()))
        and _OWN_COLUMNS.isdisjoint(record.result)
        and all(map(_is_plain, record.result.values()))
        and not any(isinstance(record.result[name], str) for name in _NUMBERS & record.result.keys())
        and isinstance(record.finished_at, int | float)
        and math.isfinite(record.finished_at)
    )


def _has(values: Mapping[str, Any], form: _Form) -> bool:
    return all(isinstance(values.get(name), kind) for name, kind in form.items())


def _is_plain(value: Any) -> bool:
    """Whether a table can show it: nothing that is not finite, no half of a character, no control character."""
    kind = type(value)
    if kind is float or kind is int:
        return bool(-(2**63) < value < 2**63)
    return value is None or kind is bool or (kind is str and value.isprintable())
