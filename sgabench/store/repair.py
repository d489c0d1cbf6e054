"""Repair a results folder: what is damaged is set aside, without inventing a replacement."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sgabench.errors import InputError, counted
from sgabench.store.database import (
    COLUMNS,
    Complaint,
    back_up,
    connect,
    create_database,
    environment_id,
    free_name,
    intact,
    transaction,
    unfinished_name,
)
from sgabench.store.doctor import check_store, inspect
from sgabench.store.locks import exclusive
from sgabench.store.store import Store

BACKUP = "store.sqlite.before-repair.bak"
LOST = "lost"

Row = tuple[Any, ...]


def repair(results: Path) -> list[str]:
    """Set aside what is damaged or orphaned; the next run computes it again.

    Returns:
        A line for each thing done.

    Raises:
        InputError: another process writes to the folder, or it cannot be written.
    """
    try:
        return [*_rebuild_damaged(results), *_mend(results)]
    except OSError as error:
        raise InputError(f"results folder {results}: cannot repair: {error.strerror or error}") from None


def _rebuild_damaged(results: Path) -> list[str]:
    """If the file is damaged, make a new database from its intact records."""
    if not any(check.name in ("store", "database") and check.state == "problem" for check in check_store(results)):
        return []
    path = results / "store.sqlite"
    with exclusive(results), tempfile.TemporaryDirectory(prefix="sgabench-") as folder:
        backup = free_name(results / BACKUP)
        for ending in ("", "-wal"):
            if (file := path.with_name(path.name + ending)).exists():
                shutil.copyfile(file, backup.with_name(backup.name + ending))
                shutil.copyfile(file, Path(folder) / file.name)
        environments, rows = _salvage(Path(folder) / path.name)
        fresh = unfinished_name(path)
        create_database(fresh)
        with closing(connect(fresh, create=True)) as database, transaction(database):
            database.executemany("INSERT INTO environments VALUES (?, ?)", environments)
            places = ", ".join("?" * (len(COLUMNS.split(",")) + 1))
            database.executemany(f"INSERT INTO records ({COLUMNS}, checksum) VALUES ({places})", rows)
        for ending in ("-wal", "-shm"):  # first: the old file's log must never be applied to the new one
            path.with_name(path.name + ending).unlink(missing_ok=True)
        fresh.replace(path)
    return [f"rebuilt store.sqlite from {len(rows)} intact records; the original is {backup.name}"]


def _salvage(path: Path) -> tuple[list[Row], list[Row]]:
    """Environments and records of a damaged file that match their checksums."""
    try:
        with closing(connect(path)) as database:
            identities = _keys(database, "environments", "id")
            found = _rows(database, "SELECT id, content FROM environments WHERE id = ?", identities)
            environments = [row for row in found if _is_text(row) and environment_id(row[1]) == row[0]]
            query = f"SELECT {COLUMNS}, checksum FROM records NOT INDEXED WHERE key = ?"
            records = list(_rows(database, query, _keys(database, "records", "key")))
    except (*Complaint, OSError):
        return [], []
    known = {identity for identity, _ in environments}
    allowed = ("trial", "cell", "probe"), ("done", "failed", "diverged")
    sound = [r for r in records if intact(r) and r[1] in allowed[0] and r[3] in allowed[1]]
    return environments, [row for row in sound if row[8] in known]


def _is_text(row: Row) -> bool:
    return all(isinstance(value, str) for value in row)


def _keys(database: sqlite3.Connection, table: str, column: str) -> list[Any]:
    """All keys that can be reached: from the first, from the last, and through the index."""
    keys: dict[Any, None] = {}
    ways = [f"{table} NOT INDEXED ORDER BY {column}", f"{table} NOT INDEXED ORDER BY {column} DESC"]
    if table == "records":
        ways.append("records INDEXED BY records_by_kind")
    for way in ways:
        try:
            for (key,) in database.execute(f"SELECT {column} FROM {way}"):
                keys[key] = None
        except Complaint:
            continue
    return list(keys)


def _rows(database: sqlite3.Connection, query: str, keys: Iterable[Any]) -> Iterator[Row]:
    for key in keys:
        try:
            row = database.execute(query, (key,)).fetchone()
        except Complaint:
            continue
        if row is not None and row[0] == key:
            yield row


def _mend(results: Path) -> list[str]:
    """Remove damaged records and those that depend on them; move orphaned files away."""
    done = []
    with Store(results, create=True) as store, exclusive(results):
        found = inspect(store)
        if unsound := (*found.damaged, *found.parentless):
            with closing(connect(store.path)) as database:
                backup = back_up(database, results / BACKUP)
            store.remove(unsound)
            done.append(f"removed {counted(len(unsound), 'record')}; the original store.sqlite is {backup.name}")
            done += [f"  removed {key}" for key in unsound]
            found = inspect(store)
        for file in (*found.damaged_weights, *found.orphans, *found.leftovers):
            (results / LOST).mkdir(exist_ok=True)
            target = free_name(results / LOST / file.name.lstrip("."))
            file.rename(target)
            done.append(f"moved {file.relative_to(results)} to {target.relative_to(results)}")
    return done
