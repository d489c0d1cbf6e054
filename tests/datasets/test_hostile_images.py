"""Images that are bombs, lies, films, or no images: each is one line that names the file, before it is decoded."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sgabench.datasets.base import Dataset
from sgabench.datasets.folders import folder_fingerprint
from sgabench.errors import InputError
from sgabench.plugins import datasets


def png(width: int, height: int, data: bytes) -> bytes:
    """A black-and-white PNG whose header says this size, whatever the data are."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def film(path: Path, form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(path, form, save_all=True, append_images=frames[1:])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of two classes with an image in each."""
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            path = tmp_path / "animals" / split / label / "a.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), "red").save(path)
    return tmp_path / "animals"


def load(folder: Path) -> Dataset:
    dataset = datasets["folder"].build(folder.parent, False, path="animals", image_size=8)
    assert isinstance(dataset, Dataset)
    return dataset


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "bomb": (lambda path: path.write_bytes(png(30_000, 30_000, bytes(100))), "larger than 89478485 pixels"),
    "many megapixels": (lambda path: path.write_bytes(png(12_000, 12_000, bytes(100))), "larger than 89478485 pixels"),
    "2**31 wide": (lambda path: path.write_bytes(png(2**31 - 1, 2**31 - 1, b"")), "larger than|cannot be read"),
    "less data than it says": (lambda path: path.write_bytes(png(4000, 4000, bytes(100))), "cannot be read"),
    "no width": (lambda path: path.write_bytes(png(0, 8, bytes(8))), "cannot be read"),
    "bitmap that lies": (
        lambda path: path.write_bytes(
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
        ),
        "larger than 89478485 pixels",
    ),
    "gif film": (lambda path: film(path, "GIF"), "more than one frame"),
    "png film": (lambda path: film(path, "PNG"), "more than one frame"),
    "webp film": (lambda path: film(path, "WEBP"), "more than one frame"),
    "tiff pages": (lambda path: film(path, "TIFF"), "more than one frame"),
    "postscript": (lambda path: Image.new("RGB", (8, 8)).save(path, "EPS"), "cannot be read as an image"),
    "targa": (lambda path: Image.new("RGB", (8, 8)).save(path, "TGA"), "cannot be read as an image"),
    "svg": (lambda path: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "cannot be read as an image"),
    "zip": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(200)), "none of .*JPEG.*PNG"),
}


@pytest.mark.parametrize(("make", "message"), HOSTILE.values(), ids=HOSTILE)
def test_it_is_refused_by_its_name(folder: Path, make: Callable[[Path], object], message: str) -> None:
    path = folder / "test" / "dog" / "a.png"
    path.unlink()
    make(path)
    with pytest.raises(InputError, match=re.escape(f"{path}: ") + f"(.*)({message})") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_photograph_with_its_preview_is_a_still_image(folder: Path) -> None:
    film(folder / "test" / "dog" / "a.png", "MPO")
    assert load(folder).test_images[1, 0].min() > 250


def test_thousands_of_large_images_are_refused_before_one_is_decoded(folder: Path) -> None:
    large = folder / "train" / "dog" / "large.png"
    large.write_bytes(png(9000, 9000, b""))  # decoding it would fail
    for number in range(6200):
        (folder / "train" / "dog" / f"{number}.png").symlink_to(large)
    with pytest.raises(InputError, match=r"animals: 6205 images of 502 gigapixels together; at most 500 are decoded"):
        load(folder)


def test_images_that_do_not_fit_into_memory_together_stay_in_a_file(folder: Path) -> None:
    for number in range(100):
        (folder / "train" / "dog" / f"{number}.png").symlink_to(folder / "train" / "dog" / "a.png")
    code = f"""
import resource
from pathlib import Path
import torch
from sgabench.plugins import datasets
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 10**8, -1))
print(len(datasets["folder"].build(Path({str(folder.parent)!r}), False, path="animals", image_size=1024).train_images))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "102\n"
    assert sum(path.stat().st_size for path in folder.parent.glob(".prepared/*/images.npy")) > 3 * 10**8


def test_a_file_that_is_too_large_for_an_image_is_not_even_hashed(folder: Path) -> None:
    with (folder / "train" / "dog" / "b.png").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(InputError, match=r"b.png: larger than 1 GB: not an image"):
        folder_fingerprint(folder.parent, {"path": "animals"})
