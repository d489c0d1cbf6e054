"""100,000 images, 4.9 GB when decoded, train with 2 GB of memory, and go on from the middle to the same bits."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from contents import contents
from PIL import Image

Start = Callable[..., "subprocess.Popen[str]"]

IMAGES, CLASSES, SIDE = 100_000, 10, 64
LIMIT = 2 * 10**9  # bytes that a process may have of its own
PATIENCE = 7200

SUITE = """
seeds = [0]
ratios = [0.5]

[training]
epochs = 1
batch_size = 100
augmentation = ["crop", "flip"]

[measurement]
throughput = false

[[datasets]]
name = "folder"
path = "images"
image_size = 128
split = {test = 0.1}

[[models]]
name = "resnet8"
width = 2

[[optimizers]]
name = "adam"

[[pruners]]
name = "magnitude"
"""


@pytest.mark.skipif(not os.environ.get("SGABENCH_TORTURE"), reason="half an hour, and 7 GB of disk: make torture")
def test_many_images_train_with_little_memory(start: Start, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for label in range(CLASSES):
        (tmp_path / "images" / f"{label}").mkdir(parents=True)
        for number in range(IMAGES // CLASSES):
            coarse = random.integers(8 * label, 8 * label + 128, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((SIDE, SIDE))
            image.save(tmp_path / "images" / f"{label}" / f"{number}.png", compress_level=1)
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE)
    limited = f'ulimit -d {LIMIT // 1024} && exec "$@"'
    arguments = ["run", suite, "--data-dir", tmp_path, "--device", "cpu", "--snapshot-minutes", "0.2", "--results"]
    line = ["bash", "-c", limited, "-", sys.executable, "-m", "sgabench", *arguments]

    stopped = start(*line, "stopped")
    deadline = time.monotonic() + PATIENCE
    while not list((tmp_path / "stopped" / "snapshots").glob("[!.]*.safetensors")):
        assert stopped.poll() is None, "it ended before its first snapshot"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stopped.kill()
    stopped.wait()
    assert start(*line, "stopped").wait(PATIENCE) == 0
    assert start(*line, "undisturbed").wait(PATIENCE) == 0
    (decoded,) = (tmp_path / ".prepared").glob("folder-*/images.npy")
    assert decoded.stat().st_size > 4.9 * 10**9
    records, weights, taken_up = contents(tmp_path / "stopped")
    assert taken_up == 1
    assert (records, weights) == contents(tmp_path / "undisturbed")[:2]
    database = sqlite3.connect(tmp_path / "undisturbed" / "store.sqlite")
    for (result,) in database.execute("SELECT result FROM records WHERE kind = 'trial'"):
        print("peak memory", json.loads(result)["peak_memory"])
        assert json.loads(result)["peak_memory"] < LIMIT
    database.close()
