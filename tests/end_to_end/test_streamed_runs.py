"""Images that do not fit into memory: the same commands, the same keys, the same bits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from contents import contents
from PIL import Image
from trials import run_one, tasks

from sgabench.running.trial import run_trial
from sgabench.store.files import Folder
from sgabench.training.building import _load_data
from sgabench.training.progress import Progress

Run = Callable[..., CompletedProcess[str]]

SUITE = """
seeds = [0]
ratios = [0.5]

[training]
epochs = 2
batch_size = 4
augmentation = ["crop", "flip"]
mixup = 0.2

[measurement]
throughput = false

[[datasets]]
name = "folder"
path = "images"
image_size = 16
split = {test = 0.25}
validation_size = 4

[[models]]
name = "resnet8"
width = 2

[[optimizers]]
name = "stochgradadam"

[[pruners]]
name = "magnitude"
finetune = {epochs = 1}

[[pruners]]
name = "taylor"
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Two classes of bright and dark images."""
    random = np.random.default_rng(0)
    for label, least in (("bright", 80), ("dark", 0)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(16):
            pixels = random.integers(least, least + 170, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    return path


def test_a_run_gives_the_same_records_and_weights(suite: Path, sgabench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("run", suite, "--device", "cpu", "--data-dir", ".", "-q", "--results")
    assert sgabench(*line, "resident").returncode == 0
    _load_data.cache_clear()
    monkeypatch.setenv("SGABENCH_DATA_MEMORY", "0")
    done = sgabench(*line, "streamed")
    assert (done.returncode, done.stderr) == (0, "")
    assert list((suite.parent / ".prepared").glob("folder-*/images.npy"))
    assert contents(suite.parent / "streamed") == contents(suite.parent / "resident")
    assert "nothing to do" in sgabench(*line[:-2], "--results", "resident").stderr, "the keys are the same"


def test_a_training_that_is_stopped_goes_on_to_the_same_bits(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = tasks(suite, suite.parent)
    expected = run_one(task)
    _load_data.cache_clear()
    monkeypatch.setenv("SGABENCH_DATA_MEMORY", "0")
    other = suite.parent / "other"
    (other / "weights").mkdir(parents=True)
    stopped = replace(task, files=Folder(other), snapshot_seconds=1e-9)

    def stop_in_the_second_epoch(event: Any) -> None:
        if isinstance(event, Progress) and event.epoch >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(stopped, stop_in_the_second_epoch, lambda: contextlib.nullcontext(True))
    found = run_one(stopped)
    names = ("top1", "loss", "weights_sha256")
    numbers = [[record.result.get(name) for name in names for record in records] for records in (found, expected)]
    assert numbers[0] == numbers[1]
    assert found[0].result["interruptions"] == 1
