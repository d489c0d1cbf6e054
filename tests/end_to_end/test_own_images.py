"""Sixty images of one's own and a network trained elsewhere: two commands to a leaderboard of three pruners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from shown import BLOCKS
from torch.nn import functional as F  # noqa: N812

Run = Callable[..., CompletedProcess[str]]

COLOURS = {"red roses": (150, 0, 0), "tulip": (0, 150, 0), "weed": (0, 0, 150)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """PNG, JPEG, grey, RGBA, palette, turned by EXIF data, 16 bit; names with spaces."""
    random = np.random.default_rng(0)
    turned = Image.Exif()
    turned[274] = 6
    for label, colour in COLOURS.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 100, (*random.integers(20, 40, 2), 3)) + np.array(colour)
            image, path = Image.fromarray(pixels.astype(np.uint8)), tmp_path / "photos" / label / f"img {number}.png"
            if number == 0:
                Image.fromarray(np.zeros((20, 20), dtype=np.uint16)).save(path)
            elif number % 5 == 0:
                image.save(path.with_suffix(".jpg"), exif=turned)
            else:
                image.convert(("RGB", "RGBA", "P", "RGB", "L")[number % 5]).save(path)
    return tmp_path / "photos"


def train_elsewhere(folder: Path, photos: Path) -> None:
    """The network of the documentation, trained in a loop of its own."""
    (net,) = [block.text for block in BLOCKS if block.title == "net.py"]
    (folder / "net.py").write_text(net)
    scope: dict[str, Any] = {"__name__": "net"}
    exec(net, scope)
    torch.manual_seed(0)
    network = scope["Net"](num_classes=3)
    paths = [path for label in COLOURS for path in sorted((photos / label).glob("img [1-9]*"))]
    images = torch.stack(
        [
            torch.from_numpy(np.array(Image.open(path).convert("RGB").resize((32, 32)))).permute(2, 0, 1)
            for path in paths
        ]
    )
    labels = torch.tensor([list(COLOURS).index(path.parent.name) for path in paths])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(25):
        optimizer.zero_grad()
        F.cross_entropy(network((images / 255 - 0.5) / 0.25), labels).backward()
        optimizer.step()
    torch.save(network.state_dict(), folder / "best.pt")


def test_two_commands_to_a_leaderboard(photos: Path, sgabench: Run) -> None:
    train_elsewhere(photos.parent, photos)
    checked = sgabench("data", "check", "folder:photos")
    problems = [line for line in checked.stdout.splitlines() if "problem: " in line]
    assert [line.endswith("only 8-bit images can be used") for line in problems] == [True] * 3
    for label in COLOURS:
        (photos / label / "img 0.png").unlink()
    line = ("score", "best.pt", "--plugin", "net.py", "--model", "net:Net", "--dataset", "folder:photos")
    refused = sgabench(*line)
    assert "--set datasets.1.split={test=0.2}" in refused.stderr
    pruners = [part for name in ("magnitude", "random", "structured") for part in ("--pruner", name)]
    settings = ("--set", "datasets.1.split={test=0.2}", "--set", "measurement.throughput=false", "--ratio", "0.5")
    done = sgabench(*line, *pruners, *settings, "--normalize", "0.5,0.5,0.5/0.25,0.25,0.25", "--device", "cpu")
    assert (done.returncode, done.stdout.count("failed")) == (0, 0), done.stderr
    for pruner in ("magnitude, 0.5 of weights", "random, 0.5 of weights", "structured, 0.5 of params"):
        assert pruner in done.stdout
    assert "dense top-1" in done.stderr
    assert "no better than guessing" not in done.stdout
