"""A training that takes too long is saved, and goes on when it is given more time."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import variant

PLUGIN = '''
import time, torch
from pathlib import Path
from sgabench.plugins import optimizers

@optimizers.register("slow")
def slow(parameters):
    """Adam that can be slow."""
    class Slow(torch.optim.Adam):
        def step(self, closure=None):
            if Path("hurry").exists():
                return super().step(closure)
            time.sleep(0.5)
            return super().step(closure)
    return Slow(parameters, lr=0.01)
'''


@pytest.mark.skipif(not os.environ.get("SGABENCH_TORTURE"), reason="make torture: it takes a minute")
def test_a_training_that_takes_too_long_is_saved(
    sgabench_process: Callable[..., subprocess.CompletedProcess[str]], tiny: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "slow.py"
    plugin.write_text(PLUGIN)
    variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "slow"\ntraining = {epochs = 100}')  # 400 steps
    arguments = ("run", tiny, "--plugin", plugin, "--only", "*/slow/0", "--trial-timeout")
    stopped = sgabench_process(*arguments, "0.5", timeout=600)
    assert stopped.returncode == 1
    assert "--trial-timeout: not finished after 0.5 minutes, while it was at the training" in stopped.stdout
    (tmp_path / "hurry").touch()
    done = sgabench_process(*arguments, "10", "--retry", "failed", timeout=600)
    assert done.returncode == 0, done.stderr
    database = sqlite3.connect(tmp_path / "results" / "store.sqlite")
    ((result,),) = database.execute("SELECT result FROM records WHERE kind = 'trial'").fetchall()
    database.close()
    assert json.loads(result)["interruptions"] == 1
