"""The script for a machine with a GPU, on one without; what it puts together is printed by real commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would measure for minutes")
def test_without_cuda_it_says_so_and_measures_nothing(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh", output], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "gpu.sh: no CUDA here, so nothing was measured\n")
    assert not output.exists()


def test_without_what_it_needs_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no PyTorch here')")
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2:] == [
        "ImportError: no PyTorch here",
        f"gpu.sh: {sys.executable} lacks a package that sgabench needs",
    ]


def test_what_commands_print_is_put_together_and_what_failed_is_reported(sgabench: Run, tmp_path: Path) -> None:
    source = (
        "from torch import nn\nfrom sgabench.plugins import models\n@models.register('small')\n"
        "def small(spec):\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=8), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(128, 10))\n"
    )
    (tmp_path / "small.py").write_text(source)
    good = sgabench(
        "bench", "pruning", "--models", "small", "--plugin", "small.py", "--device", "cpu", "--format", "json"
    )
    bad = sgabench("bench", "inference", "--models", "resnet9", "--device", "cpu", "--format", "json")
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, printed, errors, code in (
        ("pruning", good.stdout, good.stderr, good.returncode),
        ("inference", bad.stdout, bad.stderr, bad.returncode),
        ("training", good.stdout[:200], "", 124),
        ("optimizers", good.stdout[:200], "", 0),
    ):
        (parts / f"{name}.json").write_text(printed)
        (parts / f"{name}.err").write_text(errors)
        (parts / f"{name}.exit").write_text(f"{code} 7 60\n")
    names = ["training", "pruning", "inference", "optimizers"]
    command = [sys.executable, ROOT / "benchmarks" / "gather.py", parts, tmp_path / "new" / "gpu.json", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "training failed: stopped after 60 s" in done.stderr
    written = json.loads((tmp_path / "new" / "gpu.json").read_text())
    assert written["failed"] == ["training", "inference", "optimizers"]
    printed = json.loads(good.stdout)
    assert written["environment"] == printed["environment"]
    assert written["parts"]["pruning"] == {
        "exit_code": 0,
        "seconds": 7,
        "subject": "pruning",
        "rows": printed["rows"],
    }
    assert "did you mean 'resnet" in written["parts"]["inference"]["error"]
    assert written["parts"]["optimizers"]["error"].startswith("printed no JSON")
    (parts / "training.exit").write_text("0 7 60\n")
    (parts / "training.json").write_text(good.stdout)
    assert subprocess.run([*command[:4], "training"], capture_output=True, check=False).returncode == 0
