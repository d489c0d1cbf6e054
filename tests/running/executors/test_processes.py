"""Worker processes at their start."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from support import Warm

from sgabench.running.executors.processes import Processes, Ready


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_ctrl_c_does_not_end_a_worker_that_is_starting(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A terminal sends it to all of a run's processes, and only the first of them has something to say of it."""
    pool = Processes(tmp_path, 1)
    pool._start(0)
    try:
        (worker,) = pool._workers.values()
        os.kill(worker.process.pid, signal.SIGINT)
        assert worker.connection.poll(300)
        assert isinstance(worker.connection.recv(), Ready)
    finally:
        pool.stop()
    assert capfd.readouterr().err == ""


def test_workers_are_divided_among_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgabench.running.executors.processes.multiprocessing", Warm)
    plugin = tmp_path / "telling.py"
    plugin.write_text(
        "import os, pathlib\npathlib.Path(__file__).with_name(os.environ['CUDA_VISIBLE_DEVICES']).touch()\n"
    )
    processes = Processes(tmp_path, 3, [plugin], ["7", "GPU-1"])
    workers = [processes._start(number) for number in (1, 2)]
    try:
        for worker in workers:
            assert worker.connection.poll(300)
            assert isinstance(worker.connection.recv(), Ready)
    finally:
        processes.stop()
    assert (tmp_path / "7").exists()
    assert (tmp_path / "GPU-1").exists()
