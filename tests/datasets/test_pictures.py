"""One image file to pixels: orientation, transparency, palettes, depth, colour spaces."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sgabench.datasets.pictures import Background, image_pixels, read_image
from sgabench.errors import InputError

ORIENTATION = 274
# What a camera stores of a scene for each orientation, so that viewers show the scene.
STORED = {
    1: lambda scene: scene,
    2: lambda scene: scene[:, ::-1],
    3: lambda scene: scene[::-1, ::-1],
    4: lambda scene: scene[::-1],
    5: lambda scene: scene.swapaxes(0, 1),
    6: lambda scene: np.rot90(scene),
    7: lambda scene: scene[::-1, ::-1].swapaxes(0, 1),
    8: lambda scene: np.rot90(scene, -1),
}


def read(path: Path, size: int = 8, channels: int = 3, background: Background = "white") -> NDArray[np.uint8]:
    return read_image(path, size, channels, background)


def png(colour_type: int, depth: int, width: int, rows: list[bytes], extra: bytes = b"") -> bytes:
    """A PNG of any kind, also of those that Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    keyed = chunk(b"tRNS", extra) if extra else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + keyed + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_turned_as_its_exif_data_say(tmp_path: Path, form: str, orientation: int) -> None:
    """A red, a green, a blue and a white quarter are where the photographer saw them."""
    scene = np.zeros((16, 16, 3), dtype=np.uint8)
    scene[:8, :8], scene[:8, 8:], scene[8:, :8], scene[8:, 8:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), 255
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](scene))
    Image.fromarray(stored).save(tmp_path / "a", form, exif=exif)
    seen = read(tmp_path / "a", 16).transpose(1, 2, 0)[4::8, 4::8].astype(int)
    assert np.abs(seen - scene[4::8, 4::8]).max() < 40


def test_a_picture_is_turned_before_its_centre_is_cut_out(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert read(tmp_path / "a.png").min() == 255


def test_exif_data_that_are_garbage_turn_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.jpg", exif=b"Exif\0\0garbage")
    assert read(tmp_path / "a.jpg")[0].min() > 250


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("background", "shown"), [("white", 255), ("black", 0)])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_colours_that_transparency_hides_stay_hidden(
    tmp_path: Path, channels: int, background: Background, shown: int, form: str
) -> None:
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    image.save(tmp_path / "a", form, **({"exact": True} if form == "WEBP" else {}))
    assert (read(tmp_path / "a", 8, channels, background) == shown).all()


def test_what_is_half_transparent_is_mixed_with_the_background(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (200, 0, 100, 51)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png")[:, 0, 0].tolist() == [244, 204, 224]  # 0.2 of the colour, 0.8 of white
    assert read(tmp_path / "a.png", background="black")[:, 0, 0].tolist() == [40, 0, 20]


def test_opaque_pixels_are_kept_to_the_bit(tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png").transpose(1, 2, 0) == pixels[..., :3]).all()


@pytest.mark.parametrize(
    ("kind", "depth", "row", "key"),
    [
        (0, 8, bytes([90] * 8), struct.pack(">H", 90)),
        (0, 1, b"\x00", struct.pack(">H", 0)),
        (2, 8, bytes([90, 0, 7] * 8), struct.pack(">HHH", 90, 0, 7)),
    ],
    ids=["grey", "black and white", "colour"],
)
def test_a_colour_that_stands_for_nothing_is_transparent(
    tmp_path: Path, kind: int, depth: int, row: bytes, key: bytes
) -> None:
    (tmp_path / "a.png").write_bytes(png(kind, depth, 8, [row] * 8, key))
    assert read(tmp_path / "a.png").min() == 255


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_palettes_give_their_colours_and_their_transparency(tmp_path: Path, form: str) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "solid", form)
    assert read(tmp_path / "solid")[:, 0, 0].tolist() == [10, 200, 30]
    image.save(tmp_path / "hidden", form, transparency=1)
    assert read(tmp_path / "hidden").min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_usual_kind_of_image_is_read(tmp_path: Path, mode: str, channels: int) -> None:
    form = {"PA": "TIFF", "LAB": "TIFF", "YCbCr": "TIFF", "CMYK": "JPEG"}.get(mode, "PNG")
    if mode == "LAB":
        image = Image.new("LAB", (8, 8), (255, 128, 128))
    else:
        image = Image.new("RGB", (8, 8), (255, 255, 255)).convert("P" if mode == "PA" else mode).convert(mode)
    image.save(tmp_path / "a", form)
    assert read(tmp_path / "a", 8, channels).min() >= 250


def test_colours_of_ink_become_colours_of_light(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read(tmp_path / "a.jpg")[:, 4, 4].astype(int) - [255, 0, 0]).max() < 10


def tiff(path: Path, mode: str, **tags: Any) -> None:
    """A TIFF file whose tags say what its pixels are not."""
    places = {"extra": 338, "form": 339}
    values = {places[name]: value for name, value in tags.items()}
    Image.new(mode, (8, 8)).save(path, "TIFF", tiffinfo=values)


REFUSED = {
    "grey of 16 bits": (
        lambda path: Image.fromarray(np.full((8, 8), 4000, dtype=np.uint16)).save(path, "PNG"),
        "mode 'I;16'; only 8-bit images",
    ),
    "colour of 16 bits": (
        lambda path: path.write_bytes(png(2, 16, 4, [bytes([1, 2] * 12)] * 4)),
        "16 bits per sample; only 8-bit images",
    ),
    "grey and alpha of 16 bits": (
        lambda path: path.write_bytes(png(4, 16, 4, [bytes([1, 2] * 8)] * 4)),
        "16 bits per sample; only 8-bit images",
    ),
    "pixmap of 16 bits": (
        lambda path: path.write_bytes(b"P6 2 2 4095\n" + bytes([1, 2] * 12)),
        "16 bits per sample; only 8-bit images",
    ),
    "plain pixmap of 16 bits": (
        lambda path: path.write_bytes(b"P3 2 2 65535\n" + b"1 2 3 " * 4),
        "16 bits per sample; only 8-bit images",
    ),
    "floating point": (lambda path: Image.new("F", (8, 8)).save(path, "TIFF"), "mode 'F'; only 8-bit images"),
    "ink without a marker": (lambda path: unmarked(path), "CMYK without Adobe's marker"),
    "signed samples": (lambda path: tiff(path, "L", form=(2,)), "signed samples"),
}


def unmarked(path: Path) -> None:
    """A JPEG of four colours whose marker, which says what they mean, is gone."""
    Image.new("CMYK", (8, 8)).save(path, "JPEG")
    data = path.read_bytes()
    at = data.index(b"\xff\xee")
    path.write_bytes(data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :])


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_read_wrongly_is_refused_by_its_name(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "a"
    make(path)
    with pytest.raises(InputError, match=re.escape(f"{path}: ") + f".*{re.escape(message)}"):
        image_pixels(path)


def test_channels_that_are_no_colours_are_refused(tmp_path: Path) -> None:
    """Near infrared, for example: Pillow would leave it out without a word."""
    path = tmp_path / "a.tif"
    Image.new("RGBA", (8, 8)).save(path)
    data = path.read_bytes()
    entry = struct.pack("<HHI", 338, 3, 1)  # ExtraSamples, a short: 2 is transparency, 0 is unknown
    at = data.index(entry) + len(entry)
    path.write_bytes(data[:at] + struct.pack("<H", 0) + data[at + 2 :])
    with pytest.raises(InputError, match="channels other than colours and transparency"):
        read(path)
