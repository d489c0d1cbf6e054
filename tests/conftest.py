"""Shared by all tests: a suite that takes a second, and the command line as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Two test processes share two cores; more threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = """
description = "A second of everything."
seeds = [0, 1]
ratios = [0.5]

[training]
epochs = 1
batch_size = 64

[measurement]
min_run_time = 0.001

[[datasets]]
name = "digits"
train_size = 256

[[models]]
name = "resnet8"
width = 4

[[optimizers]]
name = "adam"
lr = 0.01

[[optimizers]]
name = "stochgradadam"
lr = 0.01
sampling_rate = 0.8

[[pruners]]
name = "magnitude"
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A suite file of two optimizers, two seeds, one pruner."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def sgabench(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command line in a folder of its own."""

    def call(*arguments: str | Path, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sgabench", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return call


def variant(suite: Path, old: str, new: str) -> Path:
    """The same suite with one piece of text replaced; the piece must be there."""
    text = suite.read_text()
    assert old in text
    suite.write_text(text.replace(old, new, 1))
    return suite
