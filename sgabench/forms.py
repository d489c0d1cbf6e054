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
_NUMBERS = (
    "top1", "loss", "retention", "sparsity", "compression_ratio", "theoretical_speedup", "measured_speedup", "params",
    "nonzero_params", "macs", "nonzero_macs", "bytes", "gzip_bytes", "images_per_s", "latency_s", "classes",
    "test_images",
)  # fmt: skip


def well_formed(record: Record) -> bool:
    """Whether a record has the labels and the context that tables are made of, and numbers where they are numbers."""
    environment, at = record.environment, record.finished_at
    return (
        record.kind in _LABELS_OF
        and record.status in ("done", "failed", "diverged")
        and all(isinstance(text, str) for text in (record.key, record.parent or "", record.error))
        and _has(record.labels, _LABELS_OF[record.kind])
        and _has(environment, _ENVIRONMENT)
        and all(map(_is_plain, record.labels.values()))
        and all(map(_is_plain, environment["packages"].values()))
        and all(_is_plain(value) for name, value in environment.items() if name != "packages")
        and _OWN_COLUMNS.isdisjoint(record.result)
        and all(_is_value(name, value) for name, value in record.result.items())
        and isinstance(at, int | float)
        and math.isfinite(at)
    )


def _has(values: Mapping[str, Any], form: _Form) -> bool:
    return all(isinstance(values.get(name), kind) for name, kind in form.items())


def _is_plain(value: Any) -> bool:
    """Whether a table can show it: nothing that is not finite, no half of a character, no control character."""
    if isinstance(value, str):
        return value.isprintable()
    return value is None or (isinstance(value, int | float) and abs(value) < 2**63)


def _is_value(name: str, value: Any) -> bool:
    return _is_plain(value) and not (name in _NUMBERS and isinstance(value, str))
