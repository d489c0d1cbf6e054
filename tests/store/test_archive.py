from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from damage import everything, fill_whole
from support import ENVIRONMENT

from sgabench.errors import InputError
from sgabench.store import archive
from sgabench.store.archive import export, import_archive
from sgabench.store.merging import merge
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan, keys_of, select

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def stored(folder: Path) -> dict[str, Record]:
    with Store(folder) as store:
        return everything(store)


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "weights").iterdir()}


def test_what_was_exported_is_imported_once(folder: Path, tmp_path: Path) -> None:
    exported = export(tmp_path / "a.zip", folder, None, weights=True)
    assert (exported.records, exported.weights, exported.without) == (12, 4, 0)
    first = import_archive(tmp_path / "a.zip", tmp_path / "b")
    assert (first.new, first.weights, first.same, first.conflicts) == (12, 4, 0, [])
    assert stored(tmp_path / "b") == stored(folder)
    assert weights(tmp_path / "b") == weights(folder)
    again = import_archive(tmp_path / "a.zip", tmp_path / "b")
    assert (again.new, again.weights, again.same, again.conflicts) == (0, 0, 12, [])
    export(tmp_path / "b.zip", tmp_path / "b", None, weights=True)
    assert (tmp_path / "b.zip").read_bytes() == (tmp_path / "a.zip").read_bytes()


def test_without_weights_and_then_with_them(folder: Path, tmp_path: Path) -> None:
    export(tmp_path / "a.zip", folder, None, weights=False)
    import_archive(tmp_path / "a.zip", tmp_path / "b")
    assert weights(tmp_path / "b") == {}
    assert export(tmp_path / "none.zip", tmp_path / "b", None, weights=True).without == 4
    export(tmp_path / "c.zip", folder, None, weights=True)
    added = import_archive(tmp_path / "c.zip", tmp_path / "b")
    assert (added.new, added.same, added.weights) == (0, 12, 4)
    assert weights(tmp_path / "b") == weights(folder)


def test_a_part_of_a_suite_is_exported(folder: Path, plan: Plan, tmp_path: Path) -> None:
    part = select(plan, "*/adam/*")
    assert export(tmp_path / "a.zip", folder, keys_of(part), weights=True).weights == 2
    import_archive(tmp_path / "a.zip", tmp_path / "b")
    assert stored(tmp_path / "b").keys() == keys_of(part) & stored(folder).keys()


def test_damaged_records_and_weights_are_not_exported(folder: Path, tmp_path: Path) -> None:
    path = sorted((folder / "weights").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"safetensors: not its record's weights; sgabench doctor"):
        export(tmp_path / "a.zip", folder, None, weights=True)
    assert not (tmp_path / "a.zip").exists()


def changed(folder: Path, where: Callable[[Record], bool], **values: Any) -> None:
    """Give records of a store other values."""
    with Store(folder, create=True) as store:
        for record in everything(store).values():
            if where(record):
                store.put(replace(record, **values))


def test_what_a_machine_measures_by_the_clock_is_no_conflict(folder: Path, plan: Plan, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with Store(other, create=True) as store:
        fill_whole(store, plan)
        for record in everything(store).values():
            if record.kind != "probe":
                slower = {"seconds": 99.0, "images_per_s": 1.0, "peak_memory": 7}
                elsewhere = {**ENVIRONMENT, "cpu": "y"}
                store.put(replace(record, result={**record.result, **slower}, environment=elsewhere))
    before = stored(folder)
    ((_, merged),) = merge([other], folder)
    assert (merged.new, merged.same, merged.conflicts) == (0, 12, [])
    assert stored(folder) == before


def test_a_conflict_is_named_and_what_is_there_is_kept(folder: Path, plan: Plan, tmp_path: Path) -> None:
    """Cells of another training of a trial are not mixed with those of this one."""
    other = tmp_path / "other"
    with Store(other, create=True) as store:
        fill_whole(store, select(plan, "*/adam/0"), shift=0.125)
    trial = plan.trials[0]
    with Store(folder, create=True) as store:
        store.remove([trial.cells[0].key])
    before, files = stored(folder), weights(folder)
    ((_, merged),) = merge([other], folder)
    assert merged.conflicts == [f"trial digits/resnet8/adam/0 ({trial.key})"]
    assert (merged.new, merged.same, merged.left_out, merged.weights) == (0, 0, 2, 0)
    assert stored(folder) == before
    assert weights(folder) == files


def test_done_wins_over_failed(folder: Path, plan: Plan, tmp_path: Path) -> None:
    trial, cell = plan.trials[0], plan.trials[1].cells[0]
    other = tmp_path / "other"
    with Store(other, create=True) as store:
        fill_whole(store, plan)
    # A failed trial has nothing below it; a failed cell is one of its own.
    with Store(folder, create=True) as store:
        store.remove([record.key for record in everything(store).values() if record.parent == trial.key])
    keys = (trial.key, cell.key)
    changed(folder, lambda record: record.key in keys, status="failed", result={}, error="no")
    ((_, merged),) = merge([other], folder)
    assert (merged.new, merged.conflicts) == (4, [])
    assert {record.status for record in stored(folder).values()} == {"done"}
    changed(other, lambda record: record.key in keys, status="failed", result={}, error="no")
    ((_, merged),) = merge([other], folder)
    assert (merged.kept, merged.new, merged.conflicts) == (2, 0, [])
    assert {record.status for record in stored(folder).values()} == {"done"}


def test_a_trial_does_not_come_above_results_of_another_training(folder: Path, plan: Plan, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with Store(other, create=True) as store:
        fill_whole(store, plan, shift=0.125)
    changed(folder, lambda record: record.key == plan.trials[0].key, status="failed", result={}, error="no")
    before = stored(folder)
    ((_, merged),) = merge([other], folder)
    assert len(merged.conflicts) == 4
    assert stored(folder) == before


def test_folders_of_several_machines_become_one(plan: Plan, tmp_path: Path) -> None:
    for name in ("adam", "stochgradadam"):
        with Store(tmp_path / name, create=True) as store:
            fill_whole(store, select(plan, f"*/{name}/*"))
    merged = merge([tmp_path / "adam", tmp_path / "stochgradadam"], tmp_path / "all")
    assert [(counts.new, counts.weights) for _, counts in merged] == [(6, 2), (6, 2)]
    assert len(weights(tmp_path / "all")) == 4
    with pytest.raises(InputError, match="is the one that --results names"):
        merge([tmp_path / "all"], tmp_path / "all")
    with pytest.raises(InputError, match=r"no store\.sqlite in it"):
        merge([tmp_path / "nowhere"], tmp_path / "all")


def test_damaged_weights_of_another_folder_are_not_taken(folder: Path, tmp_path: Path) -> None:
    path = sorted((folder / "weights").iterdir())[0]
    path.write_bytes(b"other")
    with pytest.raises(InputError, match="damaged, not those of its record; nothing was imported"):
        merge([folder], tmp_path / "b")
    assert stored(tmp_path / "b") == {}
    assert weights(tmp_path / "b") == {}


Edit = Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None]


def rewrite(source: Path, target: Path, edit: Edit, *, manifest: bool = True) -> None:
    """Copy an archive with other members; unless told otherwise, with a manifest that fits them."""
    with zipfile.ZipFile(source) as old:
        members = [(info, old.read(info)) for info in old.infolist()]
    edit(members)
    if manifest:
        files = {i.filename: hashlib.sha256(c).hexdigest() for i, c in members if i.filename != "manifest.json"}
        text = json.dumps({"format": 1, "sgabench": "0", "files": files}).encode()
        members[:] = [(i, text if i.filename == "manifest.json" else c) for i, c in members]
    with zipfile.ZipFile(target, "w") as new:
        for info, content in members:
            new.writestr(info, content)


def member(name: str, content: bytes = b"x", *, kind: int = 0, method: int = zipfile.ZIP_STORED) -> Edit:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o644) << 16
    info.compress_type = method
    return lambda members: members.append((info, content))


def lines(change: Callable[[list[dict[str, Any]]], object]) -> Edit:
    """Change the records of an archive."""

    def edit(members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        number = next(i for i, (info, _) in enumerate(members) if info.filename == "records.jsonl")
        records = [json.loads(line) for line in members[number][1].splitlines()]
        change(records)
        members[number] = members[number][0], b"".join(json.dumps(record).encode() + b"\n" for record in records)

    return edit


def dropped(name: str) -> Edit:
    def edit(members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        members[:] = [(info, content) for info, content in members if info.filename != name]

    return edit


def replaced(name: str, content: bytes) -> Edit:
    def edit(members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        members[:] = [(info, content if info.filename == name else old) for info, old in members]

    return edit


def compressed(members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    for info, _ in members:
        info.compress_type = zipfile.ZIP_DEFLATED


KEY = "0" * 32
DEEP: Any = None
for _ in range(400):
    DEEP = [DEEP]
HOSTILE: dict[str, tuple[Edit, str]] = {
    "a path upwards": (member("../weights/x"), "is not the name of a member"),
    "an absolute path": (member("/x"), "is not the name of a member"),
    "a path inside": (member(f"weights/../{KEY}.safetensors"), "is not the name of a member"),
    "a path of Windows": (member(f"weights\\{KEY}.safetensors"), "is not the name of a member"),
    "a key that is none": (member("weights/abc.safetensors"), "is not the name of a member"),
    "a key with more": (member(f"weights/{KEY}.safetensors\n"), "is not the name of a member"),
    "a folder": (member("weights/"), "is not the name of a member"),
    "a link": (member(f"weights/{KEY}.safetensors", b"/etc/passwd", kind=stat.S_IFLNK), "link"),
    "a device": (member(f"weights/{KEY}.safetensors", kind=stat.S_IFCHR), "device"),
    "a pipe": (member(f"weights/{KEY}.safetensors", kind=stat.S_IFIFO), "device"),
    "weights of nobody": (member(f"weights/{KEY}.safetensors"), "not the weights of a record"),
    "compressed weights": (compressed, "compressed in a way"),
    "another compression": (member("records.jsonl", method=zipfile.ZIP_BZIP2), "twice|compressed in a way"),
    "no manifest": (dropped("manifest.json"), "it has no manifest.json"),
    "no records": (dropped("records.jsonl"), "not those of its manifest"),
    "no JSON": (replaced("records.jsonl", b"{"), "line 1: not JSON"),
    "not a number": (replaced("records.jsonl", b'{"key": NaN}'), "line 1: not JSON"),
    "a list": (replaced("records.jsonl", b"[1]"), "line 1"),
    "nested JSON": (replaced("records.jsonl", b"[" * 100_000), "line 1: not JSON"),
    "an infinite number": (lines(lambda r: r[0]["result"].update(top1=float("inf"))), "line 1: not JSON"),
    "half a character": (lines(lambda r: r[0]["labels"].update(model="\ud800")), "line 1: not JSON"),
    "a nested detail": (lines(lambda r: r[0]["detail"].update(x=DEEP)), "line 1: nested too deeply"),
    "a key upwards": (lines(lambda r: r[0].update(key="../../x")), "line 1: key"),
    "a key with a newline": (lines(lambda r: r[0].update(key=KEY + "\n")), "line 1: key"),
    "a status": (lines(lambda r: r[0].update(status="great")), "line 1: status"),
    "an unknown field": (lines(lambda r: r[0].update(code="x")), "line 1: code: unknown"),
    "no context": (lines(lambda r: r[0].update(environment={})), "line 1: lacks"),
    "a text for a number": (lines(lambda r: r[0]["result"].update(top1="0.9")), "line 1: lacks"),
    "a label that controls": (lines(lambda r: r[0]["labels"].update(model="\x1b[2J")), "line 1: lacks"),
    "a record twice": (lines(lambda r: r.append(r[-1])), "appears twice"),
    "a child first": (lines(lambda r: r.reverse()), "does not come before it"),
    "a parent that is none": (lines(lambda r: r[-1].update(parent=KEY)), "does not come before it"),
    "a trial with a parent": (lines(lambda r: r[1].update(parent=r[0]["key"])), "does not come before it"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_taken(folder: Path, tmp_path: Path, case: str) -> None:
    edit, message = HOSTILE[case]
    export(tmp_path / "a.zip", folder, None, weights=True)
    rewrite(tmp_path / "a.zip", tmp_path / "hostile.zip", edit)
    around = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message) as refused:
        import_archive(tmp_path / "hostile.zip", tmp_path / "b")
    assert str(refused.value).startswith(f"{tmp_path / 'hostile.zip'}: ")
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == around


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["records.jsonl", "manifest.json"])
def test_a_member_that_is_there_twice_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    export(tmp_path / "a.zip", folder, None, weights=False)
    rewrite(tmp_path / "a.zip", tmp_path / "twice.zip", member(name, b"{}"))
    with pytest.raises(InputError, match=f"{name} appears twice"):
        import_archive(tmp_path / "twice.zip", tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["records.jsonl", "weights"])
def test_a_wrong_checksum_is_refused(folder: Path, plan: Plan, tmp_path: Path, name: str) -> None:
    name = f"weights/{plan.trials[0].key}.safetensors" if name == "weights" else name
    export(tmp_path / "a.zip", folder, None, weights=True)
    rewrite(tmp_path / "a.zip", tmp_path / "b.zip", replaced(name, b"{}"), manifest=False)
    with pytest.raises(InputError, match=f"{name} does not match its checksum"):
        import_archive(tmp_path / "b.zip", tmp_path / "b")
    rewrite(tmp_path / "a.zip", tmp_path / "c.zip", replaced(name, b"{}"))
    with pytest.raises(InputError, match=r"not the weights of a record|line 1"):
        import_archive(tmp_path / "c.zip", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_bomb_is_not_decompressed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten megabytes of spaces in ten kilobytes: a line that is too long for a record, a member that is too long."""
    export(tmp_path / "a.zip", folder, None, weights=False)
    rewrite(tmp_path / "a.zip", tmp_path / "bomb.zip", replaced("records.jsonl", b" " * 10_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 20_000
    monkeypatch.setattr(archive, "MOST_RECORD", 1_000_000)
    with pytest.raises(InputError, match=r"records.jsonl, line 1: longer than 1000000 bytes"):
        import_archive(tmp_path / "bomb.zip", tmp_path / "b")
    monkeypatch.setattr(archive, "MOST_RECORDS", 5_000_000)
    with pytest.raises(InputError, match=r"records.jsonl has 10000000 bytes, more than are taken"):
        import_archive(tmp_path / "bomb.zip", tmp_path / "b")


def test_a_newer_format_is_refused(folder: Path, tmp_path: Path) -> None:
    export(tmp_path / "a.zip", folder, None, weights=False)
    newer = json.dumps({"format": 2, "files": {}, "more": 1}).encode()
    rewrite(tmp_path / "a.zip", tmp_path / "b.zip", replaced("manifest.json", newer), manifest=False)
    with pytest.raises(InputError, match="format 2 is of a newer sgabench"):
        import_archive(tmp_path / "b.zip", tmp_path / "b")


def test_the_commands_say_what_they_did(sgabench: Run, folder: Path, plan: Plan, tmp_path: Path) -> None:
    done = sgabench("export", "a.zip", "--suite", "tiny.toml", "--only", "*/adam/*", "--weights")
    assert (done.returncode, done.stdout) == (0, "a.zip: 6 records, weights of 2 trials\n")
    done = sgabench("import", "a.zip", "--results", "b")
    assert done.stdout == "a.zip: 6 records and the weights of 2 trials imported; 0 already there\n"
    with Store(tmp_path / "other", create=True) as store:
        fill_whole(store, select(plan, "*/adam/0"), shift=0.125)
    done = sgabench("merge", "results", "other", "--results", "b")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "results: 6 records and the weights of 2 trials imported; 6 already there",
        "other: 0 records and the weights of 0 trials imported; 0 already there; 1 in conflict with what is here, "
        "which is kept; 2 left out, of networks that were not imported",
        f"  conflict: trial digits/resnet8/adam/0 ({plan.trials[0].key})",
    ]
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no")
    for arguments, message in (
        (["import", "bad.zip"], "bad.zip: not an archive"),
        (["import", "nowhere.zip"], "nowhere.zip: no such file"),
        (["export", "results/store.sqlite"], "error: results/store.sqlite: would damage the results folder"),
        (["export", "a.zip", "--results", "nowhere"], "results folder nowhere: does not exist"),
        (["merge", "results"], "--results"),
    ):
        refused = sgabench(*arguments)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert message in refused.stderr
