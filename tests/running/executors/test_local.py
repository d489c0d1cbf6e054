"""Worker processes at their start."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from sgabench.running.executors.local import Ready, _Pool


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_ctrl_c_does_not_end_a_worker_that_is_starting(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A terminal sends it to all of a run's processes, and only the first of them has something to say of it."""
    pool = _Pool(cast(Any, None), tmp_path, lambda *_: None, (), None)
    pool._start(0)
    try:
        (worker,) = pool._workers.values()
        os.kill(worker.process.pid, signal.SIGINT)
        assert worker.connection.poll(300)
        assert isinstance(worker.connection.recv(), Ready)
    finally:
        pool.stop()
    assert capfd.readouterr().err == ""
