"""Where records live: one SQLite file, and the trained weights beside it."""

from __future__ import annotations

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

from sgabench.errors import InputError

SCHEMA_VERSION = 1

Status = Literal["done", "failed", "diverged"]

_SCHEMA = """
CREATE TABLE environments (id TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('trial', 'cell', 'probe')),
    parent TEXT,                  -- of a cell its trial, of a probe its trial or cell
    status TEXT NOT NULL CHECK (status IN ('done', 'failed', 'diverged')),
    labels TEXT NOT NULL,         -- JSON: what tables show
    description TEXT NOT NULL,    -- JSON: what the key was made of
    result TEXT NOT NULL,         -- JSON: numbers, a value each
    detail TEXT NOT NULL,         -- JSON: per epoch, per layer
    error TEXT NOT NULL,          -- traceback of a failure
    environment TEXT NOT NULL REFERENCES environments (id),
    finished_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX records_by_kind ON records (kind, parent);
"""


@dataclass(frozen=True)
class Record:
    """What came out of a trial, a cell or a probe."""

    key: str
    kind: Literal["trial", "cell", "probe"]
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

    One process writes; any number read (SQLite's write-ahead log). Every record is a transaction of
    its own, so what is finished stays.

    Raises:
        InputError: the folder cannot be used, or was written by a newer version.
    """

    def __init__(self, folder: str | Path, *, create: bool = False) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "store.sqlite"
        self.weights = self.folder / "weights"
        self._database: sqlite3.Connection | None = None
        try:
            if create:
                self.weights.mkdir(parents=True, exist_ok=True)
            if create or self.path.exists():
                self._database = self._open(create)
        except (OSError, sqlite3.OperationalError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"results folder {self.folder}: {reason}; name another with --results DIR") from None
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path}: not a store of sgabench ({error}); move it away or mend it") from None

    def _open(self, create: bool) -> sqlite3.Connection:
        if create and not os.access(self.weights, os.W_OK):
            raise PermissionError(13, "not writable")
        if self.path.exists() and not os.access(self.path, os.R_OK):
            raise PermissionError(13, "store.sqlite is not readable")
        writable = create or (os.access(self.folder, os.W_OK) and os.access(self.path, os.W_OK))
        # A store on a read-only medium cannot have a log beside it; immutable reads without one.
        uri = self.path.resolve().as_uri() + ("?mode=rwc" if create else "?mode=rw" if writable else "?immutable=1")
        database = sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)
        if create:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0 and create:
            self._initialize(database)
        elif version > SCHEMA_VERSION:
            raise InputError(
                f"{self.path}: written by a newer sgabench (store version {version}, this one reads up to "
                f"{SCHEMA_VERSION}); upgrade sgabench or name another folder with --results"
            )
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError("no schema version")
        return database

    @staticmethod
    def _initialize(database: sqlite3.Connection) -> None:
        """Make the tables, unless another process was faster or the file is something else's."""
        database.execute("BEGIN IMMEDIATE")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables:
            database.execute("ROLLBACK")
            raise sqlite3.DatabaseError("it has other tables")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute("COMMIT")

    def close(self) -> None:
        """Close the database; what was put is on disk already."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one process that writes; remove what a killed one left half written.

        Raises:
            InputError: another process is writing.
        """
        with (self.folder / ".lock").open("w") as lock:
            try:
                _lock(lock)
            except OSError:
                raise InputError(
                    f"results folder {self.folder}: another run is writing to it; wait for it or name another "
                    "with --results"
                ) from None
            for folder in (self.weights, self.folder / "snapshots"):
                for left in folder.glob(".*.part"):
                    left.unlink(missing_ok=True)
            yield

    def put(self, record: Record) -> None:
        """Write a record, in place of an earlier one of the same key."""
        if self._database is None:
            raise ValueError("this store was opened for reading")
        environment = _json(record.environment)
        identity = hashlib.sha256(environment.encode()).hexdigest()[:16]
        row = (
            record.key,
            record.kind,
            record.parent,
            record.status,
            _json(record.labels),
            _json(record.description),
            _json(record.result),
            _json(record.detail),
            record.error.encode("utf-8", "backslashreplace").decode(),
            identity,
            record.finished_at,
        )
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (identity, environment))
            self._database.execute(f"INSERT OR REPLACE INTO records VALUES ({', '.join('?' * len(row))})", row)
            self._database.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise InputError(f"results folder {self.folder}: cannot write: {error}") from None

    def statuses(self) -> dict[str, str]:
        """Status of every record by key."""
        return dict(self._rows("SELECT key, status FROM records"))

    def records(
        self, kind: str, keys: Iterable[str] | None = None, *, detail: bool = False, description: bool = True
    ) -> Iterator[Record]:
        """Records of a kind, in the order of their keys.

        Args:
            kind: trial, cell or probe.
            keys: only these; default: all.
            detail: read what is per epoch and per layer, too.
            description: read what the key was made of.
        """
        wanted = None if keys is None else set(keys)
        environments = {
            identity: _parsed(content) for identity, content in self._rows("SELECT id, content FROM environments")
        }
        details, descriptions = "detail" if detail else "'{}'", "description" if description else "'{}'"
        rows = self._rows(
            f"SELECT key, kind, parent, status, labels, {descriptions}, environment, result, {details}, error, "
            # + keeps it from the index, which is slower than the table where most records are of one kind.
            "finished_at FROM records WHERE +kind = ? ORDER BY key",
            (kind,),
        )
        for key, _, parent, status, labels, made_of, environment, result, extra, error, at in rows:
            if wanted is not None and key not in wanted:
                continue
            (made_in,) = environments.get(environment, (None,))
            parts = _parsed(labels, made_of, result, extra)
            if len(parts) != 4 or made_in is None or not _has_context(made_in):
                raise InputError(f"{self.path}: record {key} is damaged; move the results folder away or mend it")
            of, what, numbers, more = parts
            yield Record(key, kind, parent, status, of, what, made_in, numbers, more, error, at)  # type: ignore[arg-type]

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
        if self._database is None:
            return
        try:
            yield from self._database.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path}: cannot be read: {error}") from None

    def weights_path(self, trial_key: str) -> Path:
        """Where the trained weights of a trial are."""
        return weights_path(self.folder, trial_key)


def _parsed(*texts: Any) -> list[Any]:
    """JSON objects, at one go, which takes a third of the time; ``[None]`` if any is damaged."""
    try:
        values = json.loads(f"[{','.join(texts)}]")
    except (ValueError, TypeError):
        return [None]
    return values if len(values) == len(texts) and all(isinstance(value, dict) for value in values) else [None]


def _has_context(environment: dict[str, Any]) -> bool:
    return isinstance(environment.get("packages"), dict) and {"device", "threads"} <= environment.keys()


def weights_path(folder: Path, trial_key: str) -> Path:
    """Where the trained weights of a trial are, in a results folder."""
    return folder / "weights" / f"{trial_key}.safetensors"


def snapshot_path(folder: Path, trial_key: str) -> Path:
    """Where the snapshot of a trial's training is while it goes on, in a results folder."""
    return folder / "snapshots" / f"{trial_key}.safetensors"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whatever happens meanwhile."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def checksum(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _lock(file: IO[str]) -> None:
    """Take the file for this process until it is closed; the system frees it when the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
