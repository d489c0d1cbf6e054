"""What data sets there are, what is wrong with their images, and decoding before a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes in train and test; all that images can be."""
    random = np.random.default_rng(0)
    for split, label, number in ((s, c, n) for s in ("train", "test") for c in ("a rose", "weed") for n in range(6)):
        folder = tmp_path / "photos" / split / label
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(random.integers(0, 256, (20, 20 + 10 * number, 3), dtype=np.uint8))
        turned = Image.Exif()
        turned[274] = 6
        if number == 1:
            image.save(folder / "turned.jpg", exif=turned)
        else:
            mode = {2: "L", 3: "RGBA", 4: "P"}.get(number, "RGB")
            image.convert(mode).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_check_describes_images(photos: Path, sgabench: Run) -> None:
    checked = sgabench("data", "check", "folder:photos")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines() == [
        f"photos ({photos}): 12 train + 12 test images, 2 classes, 12 each",
        "  not RGB: 4 colour with alpha, 4 grey, 4 palette",
        "  rotated by EXIF data: 4",
        "  transparent, composited onto the background: 4",
        "  more than half cropped away, over twice as long as wide: 12",
        "  shorter sides: 20 pixels",
    ]


def test_check_names_every_image_that_cannot_be_used_and_what_is_there_twice(photos: Path, sgabench: Run) -> None:
    (photos / "train" / "weed" / "0.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((9, 9), dtype=np.uint16)).save(photos / "test" / "a rose" / "5.png")
    shutil.copy(photos / "train" / "weed" / "2.png", photos / "test" / "weed" / "2.png")
    shutil.copy(photos / "train" / "weed" / "3.png", photos / "train" / "a rose" / "3.png")
    checked = sgabench("data", "check", "folder:photos")
    assert checked.returncode == 1
    problems = [line for line in checked.stdout.splitlines() if line.startswith("  problem: ")]
    assert len(problems) == 2
    assert f"{photos}/train/weed/0.png: cannot be read as an image" in problems[0]
    assert problems[1].endswith("a rose/5.png: samples of mode 'I;16'; only 8-bit images can be used")
    assert "  the same file in both splits: train/weed/2.png = test/weed/2.png\n" in checked.stdout
    assert "  the same file in several classes: train/a rose/3.png = train/weed/3.png\n" in checked.stdout


def test_prepare_decodes_once_what_a_run_would(photos: Path, sgabench: Run) -> None:
    line = ("data", "prepare", "folder:photos", "--set", "datasets.1.image_size=16", "--data-dir", ".")
    first, second = sgabench(*line), sgabench(*line)
    assert (first.returncode, first.stderr) == (0, "")
    (place,) = Path(photos.parent / ".prepared").glob("folder-*/images.npy")
    assert first.stdout == f"photos: 24 images of 3 x 16 x 16, 0 MB, in .prepared/{place.parent.name}\n"
    assert second.stdout == first.stdout.replace("\n", " already\n")
    listed = sgabench("data", "list", "--data-dir", ".", COLUMNS="160").stdout
    assert "folder:photos" in listed
    assert "12 + 12" in listed
    assert place.parent.name in listed
    assert "svhn" in listed


def test_class_folders_alone_will_do(photos: Path, sgabench: Run) -> None:
    checked = sgabench("data", "check", f"folder:{photos / 'train'}")
    assert checked.stdout.startswith(f"train ({photos / 'train'}): 12 images, 2 classes, 6 each\n")


def test_the_data_sets_of_a_suite_are_checked(tiny: Path, sgabench: Run) -> None:
    checked = sgabench("data", "check", tiny)
    assert (
        checked.stdout == "digits: 1,437 train + 360 test images of 1 x 8 x 8, 10 classes; valid, and used as it is\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "data check: name a suite or data sets, e.g. folder:PATH"),
        (["list", "digits"], "data list takes no names: it lists what is in the data folder, see --data-dir"),
        (["check", "folder:nowhere"], "data set 'folder': path: no folder"),
        (["prepare", "folder"], "datasets 1 (folder): path: is required"),
        (["prepare", "svhm"], "unknown dataset 'svhm'"),
        (["prepare", "digits", "--set", "datasets.1.train_size=0"], "train_size"),
    ],
)
def test_bad_input_is_one_line(sgabench: Run, arguments: list[str], message: str) -> None:
    refused = sgabench("data", *arguments)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1
