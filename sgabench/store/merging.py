"""Merge records and weights of another machine into a store: what is new, the same, or in conflict."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from sgabench.errors import InputError
from sgabench.store.store import KINDS, Record, Store, weights_path

CHUNK = 2**20
# Results that differ between machines even if the computation is the same.
_OF_THE_MACHINE = re.compile(
    r"(^|_)(s|seconds)($|_)|^(peak_memory|measured_speedup|latency_speedup|timed_alone|interruptions)$", re.IGNORECASE
)


class Source(Protocol):
    """A source of records and weights."""

    def records(self) -> Iterator[Record]:
        """All complete records, parents first."""

    def weights(self, trial_key: str) -> IO[bytes] | None:
        """The weights of a trial, open for reading; None if they are missing."""


@dataclass
class Merged:
    """The outcome of merging records into a store.

    Attributes:
        new: records that the store did not have, or had as failed.
        same: records that it had with the same result, apart from measured times.
        kept: records that it has and that failed in the source.
        conflicts: names of records that it has with a different result; its own are kept.
        left_out: records of a trial or cell that is in conflict or missing.
        weights: files of weights that it did not have.
    """

    new: int = 0
    same: int = 0
    kept: int = 0
    conflicts: list[str] = field(default_factory=list)
    left_out: int = 0
    weights: int = 0


def merge(folders: Sequence[Path], results: Path) -> list[tuple[Path, Merged]]:
    """Merge the records and weights of other results folders; in conflicts, the first one's are kept.

    Raises:
        InputError: a folder does not exist, is damaged, or is the target; nothing of it was merged.
    """
    for folder in folders:
        if not (folder / "store.sqlite").is_file():
            raise InputError(f"results folder {folder}: no store.sqlite in it; name folders that runs wrote")
        if folder.resolve() == results.resolve():
            raise InputError(f"results folder {folder}: is the one that --results names; name only the others")
    with Store(results, create=True) as store, store.writing():
        merged = []
        for folder in folders:
            with Store(folder) as other:
                merged.append((folder, absorb(store, _Folder(other))))
        return merged


@dataclass(frozen=True)
class _Folder:
    """Another results folder."""

    store: Store

    def records(self) -> Iterator[Record]:
        for kind in KINDS:
            yield from self.store.records(kind, detail=True)

    def weights(self, trial_key: str) -> IO[bytes] | None:
        path = self.store.weights_path(trial_key)
        return path.open("rb") if path.is_file() else None


def absorb(store: Store, source: Source) -> Merged:
    """Merge a source, all of it or nothing; the caller is the only writer of the store.

    Raises:
        InputError: something in the source is damaged, or the store cannot be written.
    """
    merged = Merged()
    staged: list[tuple[Path, Path]] = []
    try:
        with store.transaction():
            for record in _taken(store, source, merged):
                if record.kind == "trial" and record.status == "done":
                    _stage_weights(store, source, record, staged)
        # After the records: weights without a record are strays, a record without weights is trained again.
        for temporary, path in staged:
            temporary.replace(path)
    except OSError as error:
        where = error.filename or store.folder
        raise InputError(
            f"{where}: {error.strerror or error}; fix that and run it again; nothing was imported"
        ) from None
    finally:
        for temporary, _ in staged:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    merged.weights = len(staged)
    return merged


def _taken(store: Store, source: Source, merged: Merged) -> Iterator[Record]:
    """Store the new records; yields each record of the source that the store then has as well."""
    parents = store.parents()
    present: set[str] = set()
    for record in source.records():
        if record.parent is not None and record.parent not in present:
            merged.left_out += 1
            continue
        ours = store.get(record.key)
        if _takes_place(record, ours, parents):
            store.put(record)
            merged.new += 1
        elif ours is not None and _agree(ours, record):
            merged.same += 1
        elif ours is not None and ours.status != "failed" and record.status == "failed":
            merged.kept += 1
            continue
        else:
            merged.conflicts.append(_name(record))
            continue
        if record.status == "done":
            present.add(record.key)
        yield record


def _takes_place(record: Record, ours: Record | None, parents: set[str]) -> bool:
    """Whether to store a record: the store has none, or only a failure.

    Never a trial that already has cells with results: they were measured on other weights.
    """
    if record.status != "done" and ours is not None and not (ours.status == "failed" and record.status == "diverged"):
        return False
    if ours is not None and (ours.status != "failed" or (ours.kind, ours.parent) != (record.kind, record.parent)):
        return False
    return record.key not in parents


def _agree(ours: Record, theirs: Record) -> bool:
    return (ours.kind, ours.parent, ours.status) == (theirs.kind, theirs.parent, theirs.status) and (
        ours.status != "done"
        or (
            _comparable(ours.result) == _comparable(theirs.result)
            and (ours.kind != "probe" or _comparable(ours.detail) == _comparable(theirs.detail))
        )
    )


def _comparable(values: Any) -> Any:
    """Results without what depends on the machine: times, memory."""
    if isinstance(values, Mapping):
        return {k: _comparable(value) for k, value in values.items() if not _OF_THE_MACHINE.search(k)}
    if isinstance(values, list):
        return [_comparable(value) for value in values]
    return values


def _stage_weights(store: Store, source: Source, record: Record, staged: list[tuple[Path, Path]]) -> None:
    """Write the weights of a trial to a temporary file, if the store does not have them."""
    expected = record.result.get("weights_sha256")
    path = weights_path(store.folder, record.key)
    if expected is None or (path.is_file() and _sha256(path) == expected):
        return
    content = source.weights(record.key)
    if content is None:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    staged.append((temporary, path))
    with content, temporary.open("wb") as file:
        digest = hashlib.sha256()
        for chunk in chunks(content):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != expected:
        raise InputError(f"weights of {_name(record)}: damaged, not those of its record; nothing was imported")


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of a file, in chunks."""
    return iter(lambda: file.read(CHUNK), b"")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(record: Record) -> str:
    parts = ("dataset", "model", "optimizer", "seed", "pruner", "ratio", "probe")
    label = "/".join(str(record.labels[part]) for part in parts if part in record.labels)
    return f"{record.kind} {label} ({record.key})"
