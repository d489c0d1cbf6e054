"""The compiled library: kept once, safely, and never a reason to fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sgabench.system import native
from sgabench.system.native import Unavailable

SOURCE = 'extern "C" int answer() { return 42; }\n'
ANSWER = """
import sys
from pathlib import Path
from sgabench.system import native
print(native.load(Path(sys.argv[1])).answer())
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "answer.cpp"
    path.write_text(SOURCE)
    try:
        native._compiler()
    except Unavailable as error:
        pytest.skip(str(error))
    return path


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "sgabench").iterdir())


def test_a_file_is_compiled_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.load(source).answer() == 42
    (library,) = kept(tmp_path)
    written = library.stat().st_mtime_ns
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled again"))
    assert native.load(source).answer() == 42
    assert library.stat().st_mtime_ns == written


def test_another_source_is_another_library(source: Path, tmp_path: Path) -> None:
    native.load(source)
    source.write_text(SOURCE.replace("42", "43"))
    assert native.load(source).answer() == 43
    assert len(kept(tmp_path)) == 2


def test_several_processes_may_compile_at_once(
    start: Callable[..., subprocess.Popen[str]], source: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", ANSWER, str(source)]
    started = [start(*command, stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=300)[0].strip() for process in started] == ["42"] * 3
    assert len(kept(tmp_path)) == 1


def test_only_the_owner_can_write_where_the_library_is(source: Path, tmp_path: Path) -> None:
    native.load(source)
    folder = tmp_path / "cache" / "sgabench"
    assert folder.stat().st_mode & 0o077 == 0
    for path in (folder, *kept(tmp_path)):
        mode = path.stat().st_mode
        path.chmod(mode | 0o022)
        with pytest.raises(Unavailable, match="another user"):
            native.load(source)
        path.chmod(mode)
    folder.parent.chmod(0o777)
    with pytest.raises(Unavailable, match="world-writable"):
        native.load(source)


def test_a_compiler_that_fails_is_a_reason_in_one_line(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_text("this is not C++\n")
    with pytest.raises(Unavailable, match=r"compiler failed: .*error"):
        native.load(source)
    assert kept(tmp_path) == []
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Unavailable, match="no C\\+\\+ compiler"):
        native.load(source)


def test_a_cache_that_cannot_be_made_is_a_reason(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(Unavailable, match="XDG_CACHE_HOME"):
        native.load(source)


def test_a_library_that_is_damaged_is_a_reason(source: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", ANSWER, str(source)], check=True, stdout=subprocess.DEVNULL)
    (library,) = kept(tmp_path)
    library.unlink()
    library.write_bytes(b"damaged")
    library.chmod(0o600)
    with pytest.raises(Unavailable, match="cannot be used"):
        native.load(source)
