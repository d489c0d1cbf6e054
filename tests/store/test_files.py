"""Weights and snapshots in folders, and in what fsspec reaches."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from sgabench.errors import InputError
from sgabench.store.files import Folder, Storage, files_of


@pytest.mark.parametrize("storage", [None, "own", "file://{}/url", "memory://{}/runs/", "local://{}/local"])
def test_what_is_written_is_read_until_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    files = files_of(tmp_path / "results", storage and storage.format(tmp_path))
    name = "weights/abc.safetensors"
    assert files.read(name) is None
    files.remove(name)
    for content in (b"one", b"", b"two" * 1000):
        files.write(name, content)
        assert files.read(name) == content
    assert pickle.loads(pickle.dumps(files)).read(name) == content
    files.remove(name)
    assert files.read(name) is None


def test_places_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert files_of(tmp_path, None) == Folder(tmp_path)
    assert files_of(tmp_path, "shared").where("weights/k") == str(tmp_path / "shared" / "weights/k")
    assert files_of(tmp_path, "file:///mnt/x") == Folder(Path("/mnt/x"))
    assert files_of(tmp_path, "memory://bucket/") == Storage("memory://bucket")


def test_an_unknown_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--storage nowhere://x: ValueError: Protocol not known: nowhere"):
        files_of(tmp_path, "nowhere://x")


def test_what_a_storage_complains_of_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for storage in (Folder(tmp_path / "file"), Storage(f"local://{tmp_path}/file")):
        with pytest.raises(OSError, match=r"exists|directory"):
            storage.write("weights/abc", b"x")


def test_what_cannot_be_removed_is_reported_and_what_is_not_there_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "snapshots" / "folder").mkdir(parents=True)
    files = Storage(f"local://{tmp_path}")
    files.remove("snapshots/none")
    assert caplog.messages == []
    files.remove("snapshots/folder")
    (message,) = caplog.messages
    assert message.startswith(f"local://{tmp_path}/snapshots/folder: cannot be removed: IsADirectoryError")
