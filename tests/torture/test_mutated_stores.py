"""Stores, logs and weights after mishaps: found and named, or harmless; never another number, never a traceback."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from damage import FULL, damaged, everything, fill_whole
from support import TINY

from sgabench.errors import InputError
from sgabench.evidence.leaderboard import make_tables
from sgabench.store.database import PAGE_SIZE
from sgabench.store.doctor import check_store, inspect
from sgabench.store.repair import repair
from sgabench.store.store import Record, Store
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite

COUNT = 2000 if FULL else 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Record]]:
    """A store as a finished run leaves it."""
    folder = tmp_path_factory.mktemp("whole")
    suite = folder / "tiny.toml"
    suite.write_text(TINY)
    with Store(folder / "results", create=True) as store:
        fill_whole(store, make_plan(load_suite(suite), Path("data")))
        records = everything(store)
    return folder / "results", records


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Record]]:
    """A store of several hundred records: trees of pages below pages."""
    folder = tmp_path_factory.mktemp("large")
    suite = folder / "large.toml"
    suite.write_text(TINY.replace("ratios = [0.5]", f"ratios = {[number / 200 for number in range(1, 100)]}"))
    with Store(folder / "results", create=True) as store, store.transaction():
        fill_whole(store, make_plan(load_suite(suite), Path("data")), weights=False)
    with Store(folder / "results") as store:
        return folder / "results", everything(store)


@pytest.fixture(scope="module")
def killed(whole: tuple[Path, dict[str, Record]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as a killed run leaves it: half of the records are in the log."""
    folder = tmp_path_factory.mktemp("killed") / "results"
    records = list(whole[1].values())
    Store(folder, create=True).close()
    with Store(folder, create=True) as store:
        for record in records:
            store.put(record)
        shutil.copytree(folder, folder.with_name("copy"))
    assert (folder.with_name("copy") / "store.sqlite-wal").stat().st_size > 4096
    return folder.with_name("copy")


def assert_complete_or_refused(folder: Path, records: dict[str, Record], *, whole: bool) -> bool:
    """Whether all is read as it was; what is read at all is as it was, in every way of reading."""
    complete = False
    try:
        with Store(folder) as store:
            found = everything(store)
            for key, record in found.items():
                assert record == records[key]
            complete = len(found) == len(records)
            assert complete or not whole, "records vanished without a word"
            assert set(store.statuses()) <= set(records)
            make_tables(store)
    except InputError as error:
        assert str(folder) in str(error)
    return complete


def assert_mended(folder: Path, records: dict[str, Record]) -> None:
    """After a repair there is no problem left, and no record that was not there."""
    try:
        repair(folder)
    except InputError as error:
        assert "newer" in str(error) or "other tables" in str(error), error
        return
    assert [check for check in check_store(folder) if check.state == "problem"] == []
    with Store(folder) as store:
        for key, record in everything(store).items():
            assert record == records[key]


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_damaged_database(whole: tuple[Path, dict[str, Record]], tmp_path: Path, seed: int) -> None:
    folder, records = tmp_path / "results", whole[1]
    shutil.copytree(whole[0], folder)
    path = folder / "store.sqlite"
    path.write_bytes(damaged(path.read_bytes(), random.Random(seed)))
    complete = assert_complete_or_refused(folder, records, whole=path.stat().st_size > 0)
    try:
        problems = [check for check in check_store(folder) if check.state == "problem"]
    except InputError as error:
        assert str(path) in str(error)
        problems = []
    else:
        assert problems or complete
    assert_mended(folder, records)


@pytest.mark.parametrize("seed", range(COUNT // 2))
def test_a_damaged_page_of_many(large: tuple[Path, dict[str, Record]], tmp_path: Path, seed: int) -> None:
    """Also whole pages in the place of others, and changes of what a page says of itself."""
    chance, page = random.Random(seed), PAGE_SIZE
    shutil.copytree(large[0], tmp_path / "results")
    path = tmp_path / "results/store.sqlite"
    content = bytearray(path.read_bytes())
    one, two = (chance.randrange(page, len(content), page) for _ in range(2))
    match chance.choice(["any", "head", "exchange", "repeat"]):
        case "any":
            content = bytearray(damaged(bytes(content), chance)) or bytearray(page)
        case "head":
            content[one + chance.randrange(12)] = chance.randrange(256)
        case "exchange":
            content[one : one + page], content[two : two + page] = content[two : two + page], content[one : one + page]
        case _:
            content[one : one + page] = content[two : two + page]
    path.write_bytes(content)
    assert_complete_or_refused(path.parent, large[1], whole=True)
    assert_mended(path.parent, large[1])


@pytest.mark.parametrize("seed", range(COUNT // 5))
def test_a_damaged_log(whole: tuple[Path, dict[str, Record]], killed: Path, tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "results"
    shutil.copytree(killed, folder)
    path = folder / "store.sqlite-wal"
    path.write_bytes(damaged(path.read_bytes(), random.Random(seed)))
    assert_complete_or_refused(
        folder, whole[1], whole=False
    )  # a transaction that is not whole in the log never happened
    assert_mended(folder, whole[1])


@pytest.mark.parametrize("seed", range(COUNT))
def test_damaged_weights(whole: tuple[Path, dict[str, Record]], tmp_path: Path, seed: int) -> None:
    folder, chance = tmp_path / "results", random.Random(seed)
    shutil.copytree(whole[0], folder)
    path = chance.choice(sorted((folder / "weights").iterdir()))
    content = path.read_bytes()
    path.write_bytes(damaged(content, chance))
    with Store(folder) as store:
        expected = (path,) if path.read_bytes() != content else ()
        assert inspect(store).damaged_weights == expected
    assert_mended(folder, whole[1])
    assert (folder / "lost" / path.name).exists() == bool(expected)
