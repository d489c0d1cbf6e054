"""The store of records: one SQLite file, with the trained weights beside it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from pydantic_core import from_json

from sgabench.errors import InputError
from sgabench.store.database import (
    COLUMNS,
    Complaint,
    DamagedStore,
    environment_id,
    intact,
    is_damage,
    open_database,
    row_checksum,
    transaction,
    unfinished_name,
)
from sgabench.store.forms import fits, is_context
from sgabench.store.locks import CLAIMS, exclusive, shared

KINDS = ("trial", "cell", "probe")  # parents first
Status = Literal["done", "failed", "diverged"]
Kind = Literal["trial", "cell", "probe"]


@dataclass(frozen=True)
class Record:
    """The outcome of a trial, a cell or a probe."""

    key: str
    kind: Kind
    parent: str | None
    status: Status
    labels: Mapping[str, Any]
    description: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    finished_at: float = field(default_factory=time.time)


class Store:
    """A results folder.

    Runs share it, each writing what it has claimed, beside any number of readers (SQLite's write-ahead log). Every
    record is a transaction of its own, so finished work stays, and has a checksum, so damage is never taken for
    a result.

    Raises:
        InputError: the folder cannot be used, is damaged, or was written by a newer version.
    """

    def __init__(self, folder: str | Path, *, create: bool = False) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "store.sqlite"
        self.weights = self.folder / "weights"
        self._database: sqlite3.Connection | None = None
        try:
            if create:
                self.weights.mkdir(parents=True, exist_ok=True)
                if not os.access(self.weights, os.W_OK):
                    raise PermissionError(13, "not writable")
            if create or self.path.exists():
                self._database = open_database(self.path, create)
        except (OSError, sqlite3.OperationalError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"results folder {self.folder}: {reason}; name another with --results DIR") from None

    def close(self) -> None:
        """Close the database; all records are on disk already."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only process that writes; remove leftovers of a killed one.

        Raises:
            InputError: another process is writing.
        """
        with exclusive(self.folder):
            self._clean()
            yield

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Write together with others, each what it has claimed; without others, remove leftovers of a killed one.

        Raises:
            InputError: a process that must be the only one is writing.
        """
        with shared(self.folder, self._clean):
            yield

    def _clean(self) -> None:
        # In other folders, a report may be about to be moved into place.
        for pattern in ("weights/.*.part", "snapshots/.*.part", ".store.sqlite.*.part*", f"{CLAIMS}/*.lock"):
            for left in self.folder.glob(pattern):
                left.unlink(missing_ok=True)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Records put or removed inside the block are stored together or not at all.

        Raises:
            InputError: the disk is full, or cannot be written for another reason.
        """
        if self._database is None:
            raise ValueError("this store was opened for reading")
        try:
            with transaction(self._database):
                yield
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"results folder {self.folder}: cannot write: {error}; fix that and run the same command again: "
                "what is stored stays"
            ) from None

    def put(self, record: Record) -> None:
        """Write a record, replacing an earlier one with the same key."""
        if self._database is not None and self._database.in_transaction:
            self._put(self._database, record)
            return
        with self.transaction():
            assert self._database is not None
            self._put(self._database, record)

    @staticmethod
    def _put(database: sqlite3.Connection, record: Record) -> None:
        environment = _json(record.environment)
        row = (
            record.key,
            record.kind,
            record.parent,
            record.status,
            _json(record.labels),
            _json(record.description),
            _json(record.result),
            _json(record.detail),
            environment_id(environment),
            float(record.finished_at),
            record.error.encode("utf-8", "backslashreplace").decode(),
        )
        database.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (row[8], environment))
        database.execute(
            f"INSERT OR REPLACE INTO records ({COLUMNS}, checksum) VALUES ({', '.join('?' * (len(row) + 1))})",
            (*row, row_checksum(row)),
        )

    def remove(self, keys: Iterable[str]) -> None:
        """Delete records, so that a run computes them again."""
        with self.transaction():
            assert self._database is not None
            self._database.executemany("DELETE FROM records WHERE key = ?", [(key,) for key in keys])
            self._database.execute("DELETE FROM environments WHERE id NOT IN (SELECT environment FROM records)")

    def statuses(self) -> dict[str, str]:
        """Status of every record by key."""
        return dict(self._rows("SELECT key, status FROM records"))

    def outcomes(self, keys: Iterable[str] | None = None) -> dict[str, tuple[str, float]]:
        """Status and time of finishing of records, by key; only of some keys, if given."""
        query = "SELECT key, status, finished_at FROM records"
        if keys is None:
            rows = self._rows(query)
        else:
            rows = (row for key in keys for row in self._rows(f"{query} WHERE key = ?", (key,)))
        return {key: (status, finished_at) for key, status, finished_at in rows}

    def parents(self) -> set[str]:
        """Keys of trials and cells with a cell or probe that is done."""
        return {key for (key,) in self._rows("SELECT DISTINCT parent FROM records WHERE status = 'done'") if key}

    def records(
        self, kind: str, keys: Iterable[str] | None = None, *, detail: bool = False, description: bool = True
    ) -> Iterator[Record]:
        """Records of a kind, in the order of their keys.

        Args:
            kind: trial, cell or probe.
            keys: only these; default: all.
            detail: also read what is stored per epoch and layer.
            description: also read what the key was made of.
        """
        wanted = None if keys is None else set(keys)
        for key, record in self._read(f"+kind = ? OR +kind NOT IN {KINDS}", kind, detail, description):
            if wanted is not None and key not in wanted:
                continue
            if record is None:
                raise self.damaged(key)
            yield record

    def get(self, key: str) -> Record | None:
        """The complete record of a key."""
        for _, record in self._read("key = ?", key, detail=True):
            if record is None:
                raise self.damaged(key)
            return record
        return None

    def examine(self) -> Iterator[tuple[str, Record | None]]:
        """Every key with its record, or None if it is damaged."""
        return self._read("? IS NULL", None, detail=True)

    def damaged(self, key: str) -> InputError:
        """The error for a damaged record."""
        return InputError(
            f"{self.path}: record {key} is damaged; sgabench doctor --results {self.folder} --repair removes it, "
            "and the next run recomputes it"
        )

    def _read(
        self, condition: str, value: str | None, detail: bool, description: bool = True
    ) -> Iterator[tuple[str, Record | None]]:
        for row, environment in self.rows(condition, value):
            key, kind, parent, status, labels, made_of, result, extra, _, finished_at, error, _ = row
            parsed = parse(labels, made_of if description else "{}", result, extra if detail else "{}")
            if environment is None or parsed is None:
                yield key, None
                continue
            of, what, numbers, more = parsed
            sound = fits(key, kind, parent, status, of, numbers, error, finished_at)
            record = Record(key, kind, parent, status, of, what, environment, numbers, more, error, finished_at)
            yield key, record if sound else None

    def rows(
        self, condition: str = "? IS NULL", value: str | None = None
    ) -> Iterator[tuple[tuple[Any, ...], Mapping[str, Any] | None]]:
        """Rows of records: `COLUMNS`, then the checksum; each with its environment, None if the row is damaged."""
        environments: dict[str, Any] = {}
        query = f"SELECT {COLUMNS}, checksum FROM records WHERE {condition} ORDER BY key"
        for row in self._rows(query, (value,)):
            environment = row[8]
            if environment not in environments:
                environments[environment] = self._environment(environment)
            yield row, environments[environment] if intact(row) else None

    def _environment(self, identity: str) -> Any:
        for (content,) in self._rows("SELECT content FROM environments WHERE id = ?", (identity,)):
            parsed = parse(content) if environment_id(content) == identity else None
            return parsed[0] if parsed and is_context(parsed[0]) else None
        return None

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
        if self._database is None:
            return
        try:
            yield from self._database.execute(query, values)
        except Complaint as error:
            if is_damage(error):
                raise DamagedStore(self.path, error) from None
            raise InputError(f"{self.path}: cannot be read: {error}") from None

    def weights_path(self, trial_key: str) -> Path:
        """The path of a trial's trained weights."""
        return weights_path(self.folder, trial_key)


def parse(*texts: Any) -> list[dict[str, Any]] | None:
    """JSON objects; None if any is damaged."""
    try:
        values = list(map(from_json, texts))  # three times as fast as the standard library
    except (ValueError, TypeError):
        try:
            values = list(map(json.loads, texts))  # accepts lone surrogates, too
        except (ValueError, TypeError, RecursionError):
            return None
    return values if {*map(type, texts)} == {str} and {*map(type, values)} == {dict} else None


def weights_path(folder: Path, trial_key: str) -> Path:
    """The path of a trial's trained weights in a results folder."""
    return folder / weights_name(trial_key)


def weights_name(trial_key: str) -> str:
    """The file of a trial's trained weights, in a results folder or a storage."""
    return f"weights/{trial_key}.safetensors"


def snapshot_name(trial_key: str) -> str:
    """The file of the snapshot of a trial's unfinished training."""
    return f"snapshots/{trial_key}.safetensors"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it exists completely or not at all, whatever happens meanwhile."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which is moved into place when the block ends without an exception."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "exists and is not a regular file")
    temporary = unfinished_name(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def checksum(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
