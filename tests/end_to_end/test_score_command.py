"""What a new user does first: images in folders, a network in a file, trained elsewhere; one command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from PIL import Image

from sgabench.store.store import Store

Run = Callable[..., "CompletedProcess[str]"]
COLOURS = ("blue things", "green", "red")
NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Sixty noisy images, in which the class's colour is brighter: PNG, JPEG, grey palette, RGBA."""
    random = np.random.default_rng(0)
    for split, number in (("train", 14), ("test", 6)):
        for place, name in enumerate(COLOURS):
            folder = tmp_path / "my photos" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = random.integers(0, 100, (20, 24, 3), dtype=np.uint8)
                pixels[..., 2 - place] += 120
                image = Image.fromarray(pixels)
                form = (image, image.convert("RGBA"), image.quantize(64))[i % 3]
                form.save(folder / f"photo {i}.{'jpg' if i % 6 == 0 else 'png'}")
    (tmp_path / "net.py").write_text(NETWORK)
    return tmp_path / "my photos"


@pytest.fixture
def weights(photos: Path, tmp_path: Path) -> list[str]:
    """Three networks, trained by a loop that is not sgabench's, on pixels from -1 to 1."""
    inside: dict[str, type[torch.nn.Module]] = {}
    exec(NETWORK, inside)
    files = sorted((photos / "train").rglob("*.*"))
    labels = torch.tensor([COLOURS.index(file.parent.name) for file in files])
    pixels = [np.asarray(Image.open(file).convert("RGB").resize((16, 16))) for file in files]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1
    for seed in range(3):
        torch.manual_seed(seed)
        network = inside["Net"](num_classes=3)
        optimizer = torch.optim.Adam(network.parameters(), 0.02)
        for _ in range(40):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        torch.save({"model": network.state_dict(), "epoch": 40}, tmp_path / f"net {seed}.pth")
    return [f"net {seed}.pth" for seed in range(3)]


COMMON = ("--plugin", "net.py", "--model", "net:Net", "--dataset", "folder:my photos")
SMALL = ("--set", "datasets.1.image_size=16", "--set", "measurement.throughput=false")


def test_from_nothing_to_a_leaderboard_of_three_pruners(weights: list[str], sgabench: Run, tmp_path: Path) -> None:
    named = [weights[0], f"others={weights[1]}", f"others={weights[2]}"]
    pruners = [part for name in ("magnitude", "random", "structured") for part in ("--pruner", name)]
    normalized = ("--normalize", "0.5,0.5,0.5/0.5,0.5,0.5")
    done = sgabench("score", *named, *COMMON, *SMALL, *pruners, "--ratio", "0.5", *normalized)
    assert done.returncode == 0, done.stderr
    assert "my photos, net:Net" in done.stdout
    assert all(f"{name}, 0.5 of" in done.stdout for name in ("magnitude", "random", "structured"))
    (written,) = tmp_path.glob("results/score-*/leaderboard.md")
    assert "others" in written.read_text()
    with Store(tmp_path / "results") as store:
        trials = list(store.records("trial", detail=True))
        cells = list(store.records("cell"))
    assert {(r.labels["optimizer"], r.labels["seed"]) for r in trials} == {("net 0", 0), ("others", 0), ("others", 1)}
    assert all(record.result["top1"] == 1 for record in trials), "learned elsewhere, and seen as it was trained"
    assert trials[0].detail["normalization"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert len(cells) == 9
    again = sgabench("score", *named, *COMMON, *SMALL, *pruners, "--ratio", "0.5", *normalized, "--quiet")
    assert (again.returncode, again.stderr) == (0, "")


def test_what_is_wrong_is_reported_in_a_line_before_anything_is_computed(
    weights: list[str], sgabench: Run, tmp_path: Path
) -> None:
    for arguments, message in (
        ((*COMMON, "--set", "models.1.num_classes=4"), "model 'net:Net': returns (2, 4) for 2 images"),
        ((*COMMON, "--normalize", "pretrained"), "no weights of 'net:Net' are published; write normalize"),
        ((*COMMON, "--normalize", "0.5/0.5"), "normalize: has 1 channels, the images have 3"),
        ((*COMMON[:3], "net:Not", *COMMON[4:]), "model 'net:Not': net.py has no class or function 'Not'"),
        (("--model", "resnet8", *COMMON[4:]), "net 0.pth does not fit model 'resnet8': missing conv1.weight, bn1"),
    ):
        done = sgabench("score", weights[0], *arguments, *SMALL)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert message in done.stderr
    assert not (tmp_path / "results").exists()
