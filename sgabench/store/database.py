"""The SQLite file of a store: its tables, its version, opening it in any folder, and backups."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from operator import lt
from pathlib import Path
from typing import Any

from sgabench.errors import InputError
from sgabench.store.locks import once

SCHEMA_VERSION = 2  # 1 was never released
PAGE_SIZE = 16384  # records of up to a quarter share pages; longer ones have pages of their own

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
    finished_at REAL NOT NULL,
    checksum TEXT NOT NULL DEFAULT ''  -- of all other columns
) WITHOUT ROWID;
CREATE INDEX records_by_kind ON records (kind, parent);
"""
# The order that a checksum is computed in. The error is last: no other column can contain the separator.
COLUMNS = "key, kind, parent, status, labels, description, result, detail, environment, finished_at, error"


class DamagedStore(InputError):
    """The file of a store is damaged; ``sgabench doctor --repair`` saves as much as possible."""

    def __init__(self, path: Path, finding: object) -> None:
        doctor = f"sgabench doctor --results {path.parent}"
        super().__init__(f"{path}: not a store of sgabench, or damaged ({finding}); {doctor} says what to do")


# Exceptions of SQLite; the second when it quotes bytes of a damaged file that are not text.
Complaint = (sqlite3.DatabaseError, UnicodeDecodeError)


def is_damage(error: sqlite3.DatabaseError | UnicodeDecodeError) -> bool:
    """Whether SQLite's error is about the content of a file, not about a lock, the disk or permissions."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in (
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_NOTADB,
    )


def row_checksum(row: Sequence[Any]) -> str:
    """Checksum of a stored record, in the order of `COLUMNS`: 32 hexadecimal digits."""
    a, b, c, d, e, f, g, h, i, j, k = row  # faster than a join
    text = f"{a}\0{b}\0{c}\0{d}\0{e}\0{f}\0{g}\0{h}\0{i}\0{j}\0{k}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def intact(row: Sequence[Any]) -> bool:
    """Whether a record, its checksum last, is intact."""
    written: str | None = row[-1]
    try:
        return row_checksum(row[:-1]) == written
    except UnicodeEncodeError:
        return False


def environment_id(content: object) -> str:
    """Checksum of an environment, its id in the store: 16 hexadecimal digits."""
    return hashlib.sha256(str(content).encode()).hexdigest()[:16]


def open_database(path: Path, create: bool) -> sqlite3.Connection:
    """Open a store's file and check its structure.

    Args:
        path: of the file.
        create: create it if it does not exist, and check every page before anything is written. Reading changes
            nothing, so a quicker check is enough: that no record is lost.

    Raises:
        DamagedStore: the file is damaged.
        InputError: it is another program's, or a newer version's.
        sqlite3.OperationalError, OSError: it cannot be opened.
    """
    if create:
        once(path.parent, lambda: not path.exists(), lambda: create_database(path))
    database = None
    try:
        database = connect(path, create)
        _check(database, path, create)
    except BaseException as error:
        if database is not None:
            database.close()
        if isinstance(error, Complaint) and is_damage(error):
            raise DamagedStore(path, error) from None
        raise
    return database


def create_database(path: Path) -> None:
    """Create the file of an empty store, which other processes see completely or not at all."""
    temporary = unfinished_name(path)
    try:
        with closing(connect(temporary, create=True)) as database:
            _initialize(database, temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def connect(path: Path, create: bool = False) -> sqlite3.Connection:
    """Open a file as far as the permissions of its folder allow.

    In a folder that is not writable, SQLite cannot create the index that it needs to read a write-ahead log. If both
    files of the log exist, they are used; a log without index is copied together with the database to where it can be
    read; without a log, the database is complete.
    """
    if path.exists() and not os.access(path, os.R_OK):
        raise PermissionError(13, "store.sqlite is not readable")
    log, index = (path.with_name(path.name + ending) for ending in ("-wal", "-shm"))
    if create or (os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)):
        mode = "mode=rwc" if create else "mode=rw"
    elif log.exists() and index.exists():
        mode = "mode=ro"
    elif log.exists() and log.stat().st_size:
        return _copied(path, log)
    else:
        mode = "immutable=1"
    uri = f"{path.resolve().as_uri()}?{mode}"
    database = sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)
    database.execute("PRAGMA trusted_schema = OFF")
    if create:
        database.execute(f"PRAGMA page_size = {PAGE_SIZE}")  # an existing file keeps its own
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    return database


def _copied(path: Path, log: Path) -> sqlite3.Connection:
    """The file and its log, combined in memory."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    with tempfile.TemporaryDirectory(prefix="sgabench-") as folder:
        for file in (path, log):
            shutil.copyfile(file, Path(folder) / file.name)
        with closing(sqlite3.connect(Path(folder) / path.name, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = DELETE")  # in memory there is no log
            memory.execute(f"PRAGMA page_size = {copy.execute('PRAGMA page_size').fetchone()[0]}")
            copy.backup(memory)
    return memory


def _check(database: sqlite3.Connection, path: Path, create: bool) -> None:
    version = _version(database)
    if create:
        (finding,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise DamagedStore(path, finding)
    if version == 0 and create:
        _initialize(database, path)
        return
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{path}: written by a newer sgabench (store version {version}, this one reads "
            f"{SCHEMA_VERSION}); upgrade sgabench, or name another folder with --results"
        )
    if version < SCHEMA_VERSION:
        raise _not_ours(database, path)
    (programs,) = database.execute("SELECT count(*) FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone()
    if programs:  # they would run as part of our statements
        raise InputError(f"{path}: has triggers or views, which no store has; name another folder with --results")
    if not create and not _has_all_records(database):
        raise DamagedStore(path, "records are lost")


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _has_all_records(database: sqlite3.Connection) -> bool:
    """Whether no branch of the tree of records is lost or duplicated; three times as fast as checking every page.

    Checksums protect the content of records; their number is checked with the index, a separate tree in other pages.
    """
    database.execute("BEGIN")  # both queries see the same state, whatever is written meanwhile
    try:
        keys = [key for (key,) in database.execute("SELECT key FROM records NOT INDEXED ORDER BY key")]
        (indexed,) = database.execute("SELECT count(*) FROM records INDEXED BY records_by_kind").fetchone()
        return len(keys) == indexed and all(map(lt, keys, keys[1:]))
    except TypeError:  # a key that is not text
        return False
    finally:
        if database.in_transaction:
            database.execute("COMMIT")


def _not_ours(database: sqlite3.Connection, path: Path) -> InputError:
    """Why a file without the right version is refused: it is another program's, or damaged."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables - {"records", "environments"}:
        return InputError(f"{path}: not a store of sgabench (it has other tables); name another folder with --results")
    version = _version(database)
    message = f"schema version {version}, not {SCHEMA_VERSION}" if version else "no schema version"
    return DamagedStore(path, message if tables else "it is empty")


def _initialize(database: sqlite3.Connection, path: Path) -> None:
    """Create the tables, unless another process was faster or the file belongs to another program."""
    with transaction(database):
        version = _version(database)
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables:
            raise _not_ours(database, path)
        if version == 0:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def back_up(database: sqlite3.Connection, target: Path) -> Path:
    """Copy a database including its log into one file with a free name."""
    target = free_name(target)
    temporary = unfinished_name(target)
    try:
        with closing(sqlite3.connect(temporary)) as copy:
            database.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def unfinished_name(path: Path) -> Path:
    """A hidden name beside a path for an unfinished file, unique to this process."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


def free_name(path: Path) -> Path:
    """The path itself if it does not exist, else the first of ``path.2``, ``path.3``, ... that does not."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
