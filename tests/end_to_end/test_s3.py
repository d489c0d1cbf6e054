"""Weights and snapshots on a real S3 server, which is a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contents import contents
from ray_nodes import PLUGIN
from support import variant

from sgabench.store.files import Files, files_of

pytest.importorskip("s3fs", reason="needs the extra: pip install 'sgabench[s3]'")
pytest.importorskip("moto", reason="needs a server: pip install 'moto[server]'")

Run = Callable[..., Any]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    import s3fs

    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        matches = (re.search(r"Running on (http://127\.0\.0\.1:\d+)", line) for line in server.stderr)
        address = next(found[1] for found in matches if found)
        variables = {"ENDPOINT_URL": address, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}
        for name, value in variables.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield files_of(Path(), "s3://bucket/runs")
    finally:
        server.terminate()
        server.communicate()
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_training_goes_on_from_its_snapshot_in_s3_and_leaves_its_weights_there(
    sgabench: Run, tiny: Path, tmp_path: Path, bucket: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant(tiny, 'name = "adam"', 'name = "careful"')
    (tmp_path / "careful.py").write_text(PLUGIN.replace("SIGTERM", "SIGINT"))
    arguments = ("run", tiny, "--plugin", "careful.py", "--device", "cpu", "--only", "*/careful/0")
    assert sgabench(*arguments, "--results", "local").returncode == 0
    records, weights, _ = contents(tmp_path / "local")
    (name,) = weights
    monkeypatch.setenv("SGABENCH_TEST", f"stop worker:{tmp_path / 'mark'}")
    assert sgabench(*arguments, "--storage", "s3://bucket/runs").returncode == 130
    assert bucket.read(f"snapshots/{name}")
    assert not (tmp_path / "results" / "snapshots").exists()
    done = sgabench(*arguments, "--storage", "s3://bucket/runs")
    assert done.returncode == 0, done.stderr
    assert bucket.read(f"weights/{name}") == weights[name]
    assert bucket.read(f"snapshots/{name}") is None
    assert contents(tmp_path / "results") == (records, {}, 1)
    # What is added to the trial needs its weights, which are there.
    variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.7]")
    more = sgabench(*arguments, "--storage", "s3://bucket/runs")
    assert (more.returncode, "dense top-1" in more.stderr) == (0, False), more.stderr
