from __future__ import annotations

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import ENVIRONMENT

from sgabench.errors import InputError
from sgabench.store.database import SCHEMA_VERSION
from sgabench.store.store import Record, Store, write_atomically

LABELS: dict[str, dict[str, Any]] = {
    "trial": {"dataset": "digits", "model": "resnet8", "optimizer": "sgd", "seed": 0, "group": "g"}
}
LABELS["cell"] = {**LABELS["trial"], "pruner": "magnitude", "of": "weights", "ratio": 0.5}
LABELS["probe"] = {**LABELS["trial"], "probe": "weights"}


def record(key: str = "k", kind: Any = "trial", **values: Any) -> Record:
    fields: dict[str, Any] = {
        "parent": None,
        "status": "done",
        "labels": LABELS[kind],
        "description": {"seed": 0},
        "environment": ENVIRONMENT,
        "result": {"top1": 0.5},
        "detail": {"history": [1, 2]},
        **values,
    }
    return Record(key, kind, **fields)


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        store.put(record("b", error="Traceback", status="failed"))
        store.put(record("a"))
    with Store(tmp_path) as store:
        first, second = store.records("trial", detail=True)
        assert (first.key, second.key) == ("a", "b")
        assert first == record("a", finished_at=first.finished_at)
        assert second.error == "Traceback"
        assert store.statuses() == {"a": "done", "b": "failed"}


def test_detail_is_read_only_when_asked_for(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        store.put(record())
        assert next(store.records("trial")).detail == {}


def test_records_are_found_by_kind_and_key(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        for key, kind in (("a", "trial"), ("b", "cell"), ("c", "cell"), ("d", "probe")):
            store.put(record(key, kind))
        assert [r.key for r in store.records("cell")] == ["b", "c"]
        assert [r.key for r in store.records("cell", ["c", "a"])] == ["c"]


def test_a_second_record_of_a_key_replaces_the_first(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        store.put(record(status="failed", error="no"))
        store.put(record(result={"top1": 0.75}))
        (found,) = store.records("trial")
        assert (found.status, found.error, found.result) == ("done", "", {"top1": 0.75})


def test_a_number_that_json_cannot_hold_is_not_stored(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        with pytest.raises(ValueError, match="not JSON compliant"):
            store.put(record(result={"loss": float("nan")}))
        assert store.statuses() == {}


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "none") as store:
        assert store.statuses() == {}
        assert list(store.records("trial")) == []
    assert not (tmp_path / "none").exists()


def test_one_writes_while_others_read(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as writer, Store(tmp_path) as reader:
        writer.put(record("a"))
        assert reader.statuses() == {"a": "done"}
        writer.put(record("b"))
        assert set(reader.statuses()) == {"a", "b"}


def test_only_one_process_writes(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store, Store(tmp_path, create=True) as other:
        with (
            store.writing(),
            pytest.raises(InputError, match="another run is writing to it"),
            other.writing(),
        ):
            pass
        with other.writing():
            other.put(record())


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        (store.weights / ".abc.safetensors.17.part").write_bytes(b"half")
        (store.weights / "abc.safetensors").write_bytes(b"whole")
        with store.writing():
            assert [path.name for path in store.weights.iterdir()] == ["abc.safetensors"]


def test_what_another_run_has_half_written_stays(tmp_path: Path) -> None:
    half = tmp_path / "weights" / ".abc.safetensors.17.part"
    with Store(tmp_path, create=True) as store, Store(tmp_path, create=True) as other, store.sharing():
        half.write_bytes(b"half")
        (tmp_path / "claims").mkdir()
        (tmp_path / "claims" / "abc.lock").touch()
        with other.sharing():
            other.put(record())
        assert half.exists()
        assert (tmp_path / "claims" / "abc.lock").exists()
    with Store(tmp_path, create=True) as store, store.sharing():
        assert not half.exists()
        assert list((tmp_path / "claims").iterdir()) == []


def test_outcomes_say_what_became_of_records_and_when(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        store.put(record("a"))
        store.put(replace(record("b"), status="failed", finished_at=0.1))
        assert store.outcomes().keys() == {"a", "b"}
        assert store.outcomes(["b", "c"]) == {"b": ("failed", 0.1)}


def test_a_store_is_never_seen_half_made(tmp_path: Path) -> None:
    """A reader finds none or all of it while others make it."""
    done = threading.Event()

    def make(number: int) -> None:
        with Store(tmp_path, create=True) as store:
            store.put(record(str(number)))

    def read() -> int:
        times = 0
        while not done.is_set():
            with Store(tmp_path) as store:
                store.statuses()
            times += 1
        return times

    with ThreadPoolExecutor(5) as pool:
        reader = pool.submit(read)
        makers = [pool.submit(make, number) for number in range(4)]
        wait(makers)
        done.set()
        for maker in makers:
            maker.result()
        assert reader.result() > 0
    with Store(tmp_path) as store:
        assert len(store.statuses()) == 4
    assert list(tmp_path.glob(".*.part*")) == []


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        store.put(record())
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    for create in (True, False):
        with pytest.raises(InputError, match="written by a newer sgabench"):
            Store(tmp_path, create=create)
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        assert database.execute("SELECT count(*) FROM records").fetchone() == (1,)
    database.close()


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_store_is_refused(tmp_path: Path, create: bool) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(InputError, match=r"store.sqlite: not a store"):
        Store(tmp_path, create=create)


@pytest.mark.parametrize("create", [True, False])
def test_somebody_elses_database_is_refused_and_left_alone(tmp_path: Path, create: bool) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    with pytest.raises(InputError, match="not a store"):
        Store(tmp_path, create=create)
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    database.close()


def test_a_truncated_store_is_named(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        for i in range(200):
            store.put(record(f"{i:03}"))
    path = tmp_path / "store.sqlite"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"store.sqlite"), Store(tmp_path) as store:
        list(store.records("trial"))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE records SET labels = 'no json'",
        "UPDATE records SET description = x'ff00'",
        "UPDATE records SET result = '[1]'",
        "UPDATE environments SET content = '{}'",
        "DELETE FROM environments",
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, damage: str) -> None:
    with Store(tmp_path, create=True) as store:
        store.put(record("abc"))
    database = sqlite3.connect(tmp_path / "store.sqlite")
    database.execute(damage)
    database.commit()
    database.close()
    with Store(tmp_path) as store, pytest.raises(InputError, match="record abc is damaged"):
        list(store.records("trial"))


def test_an_error_of_odd_bytes_is_stored(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        store.put(record(status="failed", error="no file '\udcff'"))
        assert next(store.records("trial")).error == r"no file '\udcff'"


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--results"):
        Store(tmp_path / "file", create=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        Store(tmp_path, create=True)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
