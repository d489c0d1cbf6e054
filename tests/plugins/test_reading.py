"""Files that a plugin reads without declaring them are refused: nobody would notice their change."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sgabench.errors import InputError
from sgabench.plugins.reading import _libraries, files_read
from sgabench.plugins.registry import datasets, load_plugin_file, models

PLUGIN = """
from pathlib import Path
from sgabench.plugins import models

@models.register("reads"{more})
def reads(spec):
    return Path(__file__).with_name("w").joinpath("net.pt").read_text()
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "net.pt").write_text("1")
    return tmp_path / "w" / "net.pt"


def test_a_file_that_is_not_declared_is_refused(tmp_path: Path, weights: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(more=""))
    load_plugin_file(path)
    with pytest.raises(InputError) as caught:
        models["reads"].build(None)
    assert str(caught.value) == (
        "model 'reads' reads w/net.pt without declaring it: results would not follow its changes; register it with "
        "files=['w/net.pt'], or with a fingerprint where an option names the file"
    )
    path.write_text(PLUGIN.format(more=", files=['w/net.pt']"))
    load_plugin_file(path)
    assert models["reads"].build(None) == "1"
    path.write_text(PLUGIN.format(more=", fingerprint=lambda data_dir, options: 'x'"))
    load_plugin_file(path)
    assert models["reads"].build(None) == "1"


@pytest.mark.parametrize(
    "read",
    [
        lambda path: path.read_bytes(),
        lambda path: os.close(os.open(path, os.O_RDONLY)),
        lambda path: torch.load(path),
        lambda path: np.load(path, allow_pickle=False),
    ],
    ids=["path", "os", "torch", "numpy"],
)
def test_whatever_reads_it_is_seen(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    file = tmp_path / "some.bin"
    file.write_bytes(b"no tensor")
    with files_read([]) as found, contextlib.suppress(Exception):  # it is no tensor
        read(file)
    assert found == [file]


def test_what_is_written_missing_code_or_known_is_left_out(tmp_path: Path) -> None:
    written, log, code, known = (tmp_path / name for name in ("a.txt", "b.log", "c.py", "d.txt"))
    for path in (log, code, known):
        path.touch()
    with files_read([known]) as found:
        written.write_text("x")
        written.read_text()
        with log.open("a") as file:
            file.write("x")
        code.read_text()
        known.read_text()
        Path("/proc/self/status").exists()
        with pytest.raises(OSError, match="No such file"):
            (tmp_path / "none").read_text()
        other = threading.Thread(target=lambda: (tmp_path / "c.py").read_text())
        other.start()
        other.join()
        torch.nn.Linear(2, 2)
    assert found == []
    with files_read([tmp_path]) as found:
        log.read_text()
    assert found == []


def test_what_one_plugin_reads_is_not_what_its_caller_reads(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    for path in (inner, outer):
        path.touch()
    with files_read([]) as first:
        with files_read([]) as second:
            inner.read_text()
        outer.read_text()
    assert (first, second) == ([outer], [inner])


def test_a_data_set_reads_its_data_folder(tmp_path: Path) -> None:
    (tmp_path / "images.bin").write_bytes(b"1")
    datasets.register("own")(lambda data_dir, download: (data_dir / "images.bin").read_bytes())
    assert datasets["own"].build(tmp_path, False) == b"1"
    (tmp_path / "data").mkdir()
    datasets.register("other")(lambda data_dir, download: (data_dir.parent / "images.bin").read_bytes())
    with pytest.raises(InputError, match=r"dataset 'other' reads .*images.bin without declaring it"):
        datasets["other"].build(tmp_path / "data", False)


def test_what_lies_where_packages_are_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lion-1.0.dist-info").mkdir()
    (tmp_path / "lion-1.0.dist-info" / "entry_points.txt").touch()
    for places, found in ((sys.path, 1), ([*sys.path, str(tmp_path)], 0)):
        monkeypatch.setattr(sys, "path", places)
        _libraries.cache_clear()
        with files_read([]) as read:
            (tmp_path / "lion-1.0.dist-info" / "entry_points.txt").read_text()
        assert len(read) == found
    _libraries.cache_clear()
