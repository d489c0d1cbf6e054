from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from damage import everything, fill_whole
from support import variant

from sgabench import run
from sgabench.cli import main
from sgabench.datasets.places import LAYOUTS
from sgabench.errors import InputError
from sgabench.store.doctor import (
    Check,
    as_text,
    check_data_sets,
    check_devices,
    check_kernels,
    check_store,
    check_versions,
)
from sgabench.store.locks import exclusive
from sgabench.store.repair import repair
from sgabench.store.store import Store
from sgabench.suite.plan import Plan


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "store.sqlite")) as database:
        database.execute(statement)
        assert database.total_changes
        database.commit()


def states(folder: Path) -> dict[str, str]:
    """What is not fine."""
    return {
        check.name: check.state for check in check_store(folder) if check.state != "ok" and check.name != "versions"
    }


def test_a_sound_store_is_fine_and_stays_as_it_is(folder: Path) -> None:
    before = (folder / "store.sqlite").read_bytes()
    assert states(folder) == {}
    assert repair(folder) == []
    assert (folder / "store.sqlite").read_bytes() == before
    assert not (folder / "lost").exists()


def test_damaged_records_are_removed_with_what_depends_on_them(folder: Path, plan: Plan) -> None:
    trial, other = plan.trials[0], plan.trials[1]
    with Store(folder) as store:
        before = everything(store)
    change(folder, f"UPDATE records SET result = replace(result, '0.', '0.9') WHERE key = '{trial.key}'")
    change(folder, f"UPDATE records SET detail = '[]' WHERE key = '{other.cells[0].key}'")
    assert states(folder) == {"records": "problem", "parents": "problem", "files": "warning"}
    done = repair(folder)
    assert done[0] == "removed 4 records; the original store.sqlite is store.sqlite.before-repair.bak"
    assert states(folder) == {}
    with Store(folder) as store:
        after = everything(store)
        assert store.statuses().keys() == after.keys()
    assert after.items() <= before.items()
    lost = {key for key in before if key not in after}
    assert {trial.key, trial.cells[0].key, other.cells[0].key} < lost
    assert len(lost) == 4
    assert (folder / "lost" / f"{trial.key}.safetensors").is_file()
    with closing(sqlite3.connect(folder / "store.sqlite.before-repair.bak")) as backup:
        assert backup.execute("SELECT count(*) FROM records").fetchone() == (12,)


def test_what_was_removed_can_be_put_again(folder: Path, plan: Plan) -> None:
    change(folder, "UPDATE environments SET content = '{}'")
    repair(folder)
    with Store(folder, create=True) as store:
        assert store.statuses() == {}
        fill_whole(store, plan)
    assert states(folder) == {}


def test_weights_and_files_are_compared_with_the_records(folder: Path, plan: Plan) -> None:
    missing, changed, *_ = sorted((folder / "weights").iterdir())
    missing.unlink()
    assert states(folder) == {"weights": "warning"}
    content = bytearray(changed.read_bytes())
    content[100] ^= 1
    changed.write_bytes(content)
    (folder / "weights/notes.txt").write_text("mine")
    (folder / f"weights/{'0' * 32}.safetensors").write_bytes(b"whose?")
    (folder / "weights/.x.safetensors.17.part").write_bytes(b"half")
    assert states(folder) == {"weights": "problem", "files": "warning"}
    assert len(repair(folder)) == 4
    assert states(folder) == {"weights": "warning"}
    assert (folder / "lost" / changed.name).read_bytes() == content
    assert (folder / "lost/notes.txt").read_text() == "mine"
    assert (folder / "lost/x.safetensors.17.part").read_bytes() == b"half"


def test_a_torn_database_is_rebuilt_from_what_is_sound(folder: Path) -> None:
    with Store(folder) as store:
        before = everything(store)
    path = folder / "store.sqlite"
    torn = bytearray(path.read_bytes())
    size = int.from_bytes(torn[16:18], "big")
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'records_by_kind'").fetchone()
    torn[(root - 1) * size : root * size] = bytes(size)
    path.write_bytes(torn)
    with pytest.raises(InputError, match="or damaged"):
        Store(folder)
    assert states(folder) == {"store": "problem"}
    (repaired,) = repair(folder)
    assert repaired.startswith("rebuilt store.sqlite from 12 intact records")
    with Store(folder) as store:
        assert everything(store) == before
    assert (folder / "store.sqlite.before-repair.bak").read_bytes() == torn
    assert states(folder) == {}


def test_a_store_that_was_cut_off_loses_what_was_cut_off(folder: Path) -> None:
    path = folder / "store.sqlite"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert states(folder) == {"store": "problem"}
    repair(folder)
    assert "problem" not in states(folder).values()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as database:
        database.execute("CREATE TABLE theirs (x)")
    before = (tmp_path / "store.sqlite").read_bytes()
    for action in (check_store, repair):
        with pytest.raises(InputError, match="it has other tables"):
            action(tmp_path)
    assert (tmp_path / "store.sqlite").read_bytes() == before


def test_nothing_is_repaired_while_a_run_writes(folder: Path) -> None:
    (folder / "weights/.x.safetensors.17.part").write_bytes(b"half")
    with exclusive(folder), pytest.raises(InputError, match="another run is writing"):
        repair(folder)
    assert (folder / "weights/.x.safetensors.17.part").exists()


def test_versions_that_differ_from_those_of_the_records_are_named() -> None:
    assert check_versions([]).state == "ok"
    check = check_versions([{"packages": {"torch": "1.0", "unknown": "3"}}])
    assert (check.state, "torch 1.0" in check.message, "unknown" in check.message) == ("warning", True, False)


@pytest.mark.parametrize(
    ("name", "place"), [(name, i) for name, layouts in LAYOUTS.items() for i in range(len(layouts))]
)
def test_data_sets_are_found_where_they_are_looked_for(tmp_path: Path, name: str, place: int) -> None:
    folder, files = LAYOUTS[name][place]
    if folder.startswith("/"):
        pytest.skip("a folder of the system")
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for file in files:
        (tmp_path / folder / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / file).touch()
    check = check_data_sets(tmp_path)
    assert check.state == "ok"
    assert name in check.message.split(";")[1]
    (tmp_path / folder / files[-1]).unlink()
    check = check_data_sets(tmp_path)
    assert check.state == "warning"
    assert f"lacks {files[-1]}" in check.message


def test_a_device_that_computes_is_fine() -> None:
    assert {check.name: check.state for check in check_devices()}["cpu"] == "ok"


def test_a_check_is_one_line_and_one_for_what_mends_it() -> None:
    text = as_text([Check("a", "ok", "fine"), Check("bcd", "problem", "two\nlines\x1b", "do this")])
    assert text.splitlines() == ["ok       a    fine", "problem  bcd  two lines\\x1b", "              -> do this"]


def test_the_command_reports_and_repairs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def doctor(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(["doctor", "--results", *arguments])
        return int(stop.value.code or 0), "".join(capsys.readouterr())

    change(folder, "UPDATE records SET error = 'x' WHERE kind = 'cell'")
    code, output = doctor(str(folder))
    assert (code, "problem  records" in output) == (1, True)
    code, output = doctor(str(folder), "--repair")
    assert (code, "removed 4 records" in output) == (0, True)
    code, output = doctor(str(folder / "nowhere"))
    assert (code, output.startswith("error: results folder") and "does not exist" in output) == (2, True)


def test_damaged_weights_are_trained_again_to_the_same_numbers(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    run(tiny, results=folder, only="*/adam/0")
    with Store(folder) as store:
        (trial,) = store.records("trial")
    (path,) = (folder / "weights").iterdir()
    sound = path.read_bytes()
    path.write_bytes(sound[:999] + bytes([sound[999] ^ 4]) + sound[1000:])
    assert states(folder) == {"weights": "problem"}
    variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.6]")
    run(tiny, results=folder, only="*/adam/0")
    assert path.read_bytes() == sound
    with Store(folder) as store:
        (again,) = store.records("trial")
        assert len(list(store.records("cell"))) == 2
    assert again.finished_at > trial.finished_at
    assert again.result["top1"] == trial.result["top1"]
    assert states(folder) == {}


def test_moving_records_imports_no_torch(folder: Path, tmp_path: Path) -> None:
    for arguments in (
        ["export", "a.zip", "--weights"],
        ["import", "a.zip", "--results", "b"],
        ["merge", "b", "--results", "c"],
    ):
        code = f"""
import sys
from sgabench import run
from sgabench.cli import main
try:
    main({arguments!r})
except SystemExit as stop:
    assert not stop.code, stop.code
assert "torch" not in sys.modules
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_lacking_compiler_is_reported_with_what_it_costs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    found = check_kernels()
    assert (found.state, found.name) == ("warning", "kernels")
    assert f"there is no C++ compiler ({tmp_path / 'none'})" in found.message
    assert "StochGradAdam's step takes 4 to 7 times as long" in found.message
    (tmp_path / "none").write_text("#!/bin/sh\necho 'cc 1.2 (x)'\necho more\n")
    (tmp_path / "none").chmod(0o700)
    assert check_kernels() == Check("kernels", "ok", "compiled for this processor by cc 1.2 (x)")
