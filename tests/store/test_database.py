"""Damaged stores, folders that cannot be written, and disks that are full."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from damage import FULL, PUBLIC, everything, fill_whole, read_only
from support import variant

from sgabench import run
from sgabench.errors import InputError
from sgabench.store.doctor import check_store
from sgabench.store.repair import repair
from sgabench.store.store import Store
from sgabench.suite.plan import Plan


@pytest.fixture
def world() -> Iterator[Path]:
    """A folder that everybody can reach, also whoever the tests pretend to be."""
    with tempfile.TemporaryDirectory(dir=PUBLIC) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("create", [True, False])
def test_a_store_that_lost_its_version_is_damaged_and_repaired_by_its_checksums(
    tmp_path: Path, plan: Plan, create: bool
) -> None:
    folder = tmp_path / "results"
    with Store(folder, create=True) as store:
        fill_whole(store, plan)
        records = everything(store)
    with closing(sqlite3.connect(folder / "store.sqlite")) as database:
        database.execute("PRAGMA user_version = 1")
    with pytest.raises(InputError, match=r"damaged \(schema version 1, not 2\)"):
        Store(folder, create=create)
    repair(folder)
    with Store(folder) as store:
        assert everything(store) == records


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE records SET result = replace(result, '0.8', '0.9') WHERE kind = 'trial'",
        "UPDATE records SET labels = replace(labels, 'adam', 'adan')",
        "UPDATE records SET status = 'failed'",
        "UPDATE records SET parent = NULL",
        "UPDATE records SET detail = '{}'",
        "UPDATE records SET finished_at = finished_at + 1",
        "UPDATE records SET error = 'x'",
        "UPDATE records SET checksum = ''",
        "UPDATE environments SET content = replace(content, '\"2\"', '\"3\"')",
    ],
)
def test_a_record_that_was_changed_is_refused(tmp_path: Path, plan: Plan, change: str) -> None:
    with Store(tmp_path / "results", create=True) as store:
        fill_whole(store, plan)
    with closing(sqlite3.connect(tmp_path / "results/store.sqlite")) as database:
        database.execute(change)
        assert database.total_changes
        database.commit()
    with (
        Store(tmp_path / "results") as store,
        pytest.raises(InputError, match=r"record \w{32} is damaged; sgabench doc"),
    ):
        everything(store)


@pytest.mark.parametrize("lost", ["records", "records_by_kind"])
@pytest.mark.parametrize("create", [True, False])
def test_a_lost_record_is_noticed(tmp_path: Path, plan: Plan, lost: str, create: bool) -> None:
    """A page that says of itself that it has one record less is a mishap that no checksum of a record shows."""
    with Store(tmp_path / "results", create=True) as store:
        fill_whole(store, plan)
    path = tmp_path / "results/store.sqlite"
    with closing(sqlite3.connect(path)) as database:
        (page_size,) = database.execute("PRAGMA page_size").fetchone()
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (lost,)).fetchone()
    content = bytearray(path.read_bytes())
    start = (page - 1) * page_size
    assert content[start] == 0x0A  # a leaf
    number = int.from_bytes(content[start + 3 : start + 5], "big")
    content[start + 3 : start + 5] = (number - 1).to_bytes(2, "big")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"store.sqlite: not a store of sgabench, or damaged"):
        Store(tmp_path / "results", create=create)


@pytest.mark.parametrize("create", [True, False])
def test_tables_whose_names_are_no_text_are_damage(tmp_path: Path, plan: Plan, create: bool) -> None:
    """Of them SQLite complains in words that Python cannot read."""
    folder = tmp_path / "results"
    with Store(folder, create=True) as store:
        fill_whole(store, plan)
    path = folder / "store.sqlite"
    content = path.read_bytes()
    assert b"CREATE TABLE records" in content
    path.write_bytes(content.replace(b"CREATE TABLE records", b"CREATE TABL\xc3 records"))
    with pytest.raises(InputError, match=r"store.sqlite: not a store of sgabench, or damaged"):
        Store(folder, create=create)
    assert "problem" in {check.state for check in check_store(folder)}
    repair(folder)
    assert {check.state for check in check_store(folder)} <= {"ok", "warning"}


def test_a_reader_is_not_confused_by_a_writer(tmp_path: Path, plan: Plan) -> None:
    with Store(tmp_path / "results", create=True) as writer, writer.transaction():
        fill_whole(writer, plan)
        with Store(tmp_path / "results") as reader:
            assert reader.statuses() == {}
    with Store(tmp_path / "results") as reader:
        assert len(reader.statuses()) == 12


@pytest.mark.parametrize("create", [True, False])
def test_a_store_with_a_program_in_it_is_refused(tmp_path: Path, plan: Plan, create: bool) -> None:
    with Store(tmp_path / "results", create=True) as store:
        fill_whole(store, plan)
    with closing(sqlite3.connect(tmp_path / "results/store.sqlite")) as database:
        database.execute("CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM records; END")
    with pytest.raises(InputError, match="has triggers or views"):
        Store(tmp_path / "results", create=create)


def _fill_and_fail(store: Store, plan: Plan) -> None:
    fill_whole(store, plan)
    fill_whole(store, plan, shift=math.nan)


def test_what_is_put_inside_a_transaction_is_stored_together_or_not(tmp_path: Path, plan: Plan) -> None:
    with Store(tmp_path, create=True) as store:
        with pytest.raises(ValueError, match="not JSON compliant"), store.transaction():
            _fill_and_fail(store, plan)
        assert store.statuses() == {}
        with store.transaction():
            fill_whole(store, plan)
        assert len(store.statuses()) == 12


@pytest.mark.parametrize("left", [("-wal", "-shm"), ("-wal",)], ids=" ".join)
def test_the_log_of_a_killed_run_is_read_where_nothing_can_be_written(
    world: Path, plan: Plan, left: tuple[str, ...]
) -> None:
    """A log that is ignored is records that are missing."""
    with Store(world / "first", create=True) as store:
        fill_whole(store, plan)
        records = everything(store)
        (world / "results").mkdir()
        for ending in ("", *left):
            shutil.copy(world / f"first/store.sqlite{ending}", world / f"results/store.sqlite{ending}")
    assert (world / "results/store.sqlite-wal").stat().st_size > 0
    files = sorted(path.name for path in (world / "results").iterdir())
    with read_only(world / "results"):
        assert not os.access(world / "results", os.W_OK)
        with Store(world / "results") as store:
            assert everything(store) == records
    assert sorted(path.name for path in (world / "results").iterdir()) == files


def test_nobody_writes_where_nothing_can_be_written(world: Path, plan: Plan) -> None:
    with Store(world / "results", create=True) as store:
        fill_whole(store, plan)
    with read_only(world / "results"):
        with pytest.raises(InputError, match=r"results folder .*not writable; name another with --results"):
            Store(world / "results", create=True)
        with Store(world / "results") as store, pytest.raises(InputError, match="Permission denied"), store.writing():
            pass


LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from sgabench.cli import main
main(sys.argv[1:])
"""


CASES = [
    ("16", 130_000, "safetensors: cannot write: File too large", "1"),
    ("4", 130_000, "results: cannot write", "1"),
]
if FULL:
    CASES.append(("16", 130_000, "safetensors: cannot write: File too large", "2"))


@pytest.mark.parametrize(
    ("width", "limit", "message", "jobs"), CASES, ids=["weights", "store", "a worker's weights"][: len(CASES)]
)
def test_a_run_that_cannot_write_stops_and_goes_on(
    tiny: Path, tmp_path: Path, width: str, limit: int, message: str, jobs: str
) -> None:
    """The limits are below the weights of a network, and below a store with all its records."""
    pytest.importorskip("resource")
    variant(tiny, "width = 4", f"width = {width}")
    only = "*/0" if jobs == "2" else "*/adam/0"
    command = [sys.executable, "-c", LIMITED, str(limit), "run", "tiny.toml", "--jobs", jobs, "--only", only]
    stopped = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert stopped.returncode == 2, stopped.stderr
    assert "Traceback" not in stopped.stderr
    last = stopped.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    with Store(tmp_path / "results") as store:
        kept = everything(store)
        assert {record.status for record in kept.values()} <= {"done"}
    run(tiny, results=tmp_path / "results", only=only)
    with Store(tmp_path / "results") as store:
        records = everything(store)
    assert {key: records[key] for key in kept} == kept
    assert {record.status for record in records.values()} == {"done"}
    assert len(records) > len(kept)


def test_an_import_that_cannot_write_takes_nothing_and_goes_on(tmp_path: Path, plan: Plan) -> None:
    pytest.importorskip("resource")
    from sgabench.store.archive import export, import_archive

    with Store(tmp_path / "first", create=True) as store:
        fill_whole(store, plan)
        records = everything(store)
    export(tmp_path / "a.zip", tmp_path / "first", None, weights=True)
    for limit in (1_500, 40_000):  # below the weights of a trial, and below the records of all
        command = [sys.executable, "-c", LIMITED, str(limit), "import", "a.zip", "--results", f"b{limit}"]
        Store(tmp_path / f"b{limit}", create=True).close()
        stopped = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert stopped.returncode == 2, stopped.stderr
        (line,) = stopped.stderr.splitlines()
        assert line.startswith("error: ")
        with Store(tmp_path / f"b{limit}") as store:
            assert store.statuses() == {}
        assert list((tmp_path / f"b{limit}/weights").iterdir()) == []
        import_archive(tmp_path / "a.zip", tmp_path / f"b{limit}")
        with Store(tmp_path / f"b{limit}") as store:
            assert everything(store) == records
