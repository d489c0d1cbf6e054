"""Decode an image file as its author meant it, or refuse it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from sgabench.errors import InputError, foreign

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

Background = Literal["white", "black"]

# Pillow's modes with 8 bits per channel.
EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB"})
# Only formats of pictures: Pillow reads others by running programs, or recognizes them only by their names.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
# Tags of TIFF.
BITS_PER_SAMPLE, EXTRA_SAMPLES, SAMPLE_FORMAT = 258, 338, 339
UNSPECIFIED, UNSIGNED = 0, 1
ORIENTATION = 274  # of EXIF


@dataclass(frozen=True)
class Picture:
    """The content of an image without a file of its own.

    Attributes:
        name: for messages.
        read: returns the content.
    """

    name: str
    read: Callable[[], bytes]

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Open it as a file, like the method of `Path`."""
        return io.BytesIO(self.read())

    def __str__(self) -> str:
        return self.name


Source = Path | Picture


def image_pixels(path: Source) -> int:
    """Width times height, from the first bytes of a file.

    Raises:
        InputError: as `read_image`, as far as these bytes show it.
    """
    with _opened(path) as image:
        return image.width * image.height


@dataclass(frozen=True)
class Look:
    """Properties of an image file that the pixels for a network no longer show.

    Attributes:
        size: width and height, as shown by viewers.
        mode: Pillow's, e.g. ``RGB``, ``L`` (grey), ``P`` (palette).
        turned: whether EXIF data rotate it.
        transparent: whether it has transparency.
    """

    size: tuple[int, int]
    mode: str
    turned: bool
    transparent: bool


def look_at(path: Source) -> Look:
    """Decode an image and describe it.

    Raises:
        InputError: as `read_image`.
    """
    from PIL import ImageOps

    with _opened(path) as image:
        mode, transparent, before = image.mode, image.has_transparency_data, image.getexif().get(ORIENTATION, 1)
        ImageOps.exif_transpose(image, in_place=True)
        image.load()
        return Look(image.size, mode, before != image.getexif().get(ORIENTATION, 1), transparent)


def read_image(path: Source, image_size: int, channels: int, background: Background) -> NDArray[np.uint8]:
    """Read an image: rotated according to EXIF data, composited onto a background, cropped to its centre.

    Returns:
        uint8 (channels, image_size, image_size).

    Raises:
        InputError: it cannot be read, its format is unknown, it has more than one frame, more than 8 bits per sample or
            channels that are not colours, or is so large that it looks like a decompression bomb (Pillow's limit,
            about 90 million pixels).
    """
    import numpy as np
    from PIL import Image, ImageOps

    with _opened(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        colours = _on_background(image, background) if image.has_transparency_data else image.convert("RGB")
    converted = colours.convert("L") if channels == 1 else colours
    side = min(converted.size)
    left, top = (converted.width - side) // 2, (converted.height - side) // 2
    square = converted.crop((left, top, left + side, top + side))
    resized = square.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(image_size, image_size, channels).transpose(2, 0, 1)


def _on_background(image: Image, background: Background) -> Image:
    """The image composited onto a background; colours of transparent pixels stay hidden."""
    from PIL import Image

    straight = image.convert("LA") if image.mode == "La" else image  # Pillow supports no other conversion from there
    over = straight if straight.mode == "RGBA" else straight.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, background), over).convert("RGB")


@contextmanager
def _opened(path: Source) -> Iterator[Image]:
    """An image that is not decoded yet; errors inside the block name it."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]  # depends on how Pillow was built
    with foreign(f"{path}: cannot be read as an image (", ")"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with path.open("rb") as file, Image.open(file, formats=known) as image:
                    problem = _problem(image)
                    if problem:
                        raise InputError(f"{path}: {problem}")
                    yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise InputError(f"{path}: larger than {Image.MAX_IMAGE_PIXELS} pixels; not decoded") from None
        except UnidentifiedImageError as error:
            raise InputError(f"{path}: cannot be read as an image (none of {', '.join(known)})") from error


def _problem(image: Image) -> str:
    """Why Pillow's pixels would not be what the file means; empty if they are."""
    tags = getattr(image, "tag_v2", {})  # of TIFF
    if UNSPECIFIED in tags.get(EXTRA_SAMPLES, ()):
        return "has channels other than colours and transparency; remove them"
    if image.mode not in EIGHT_BIT_MODES:
        return f"samples of mode {image.mode!r}; only 8-bit images can be used"
    if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a photograph with previews
        return "has more than one frame; only still images can be used"
    if _bits(image) > 8:  # Pillow keeps the upper 8 bits of colours, which are zero if a camera used 12 of 16
        return f"{_bits(image)} bits per sample; only 8-bit images can be used"
    if image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info:
        return "CMYK without Adobe's marker, which says whether 0 or 255 means no ink; convert it to RGB"
    if any(form != UNSIGNED for form in tags.get(SAMPLE_FORMAT, ())):
        return "signed samples; only unsigned ones can be used"
    return ""


def _bits(image: Image) -> int:
    """Bits per sample of the file, where Pillow's mode does not show them."""
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))
        return int(max(bits))
    parts: list[Any] = []
    for tile in getattr(image, "tile", ()):
        parts += tile.args if isinstance(tile.args, tuple) else [tile.args]
    if image.format == "PNG" and any(";16" in str(part) for part in parts):
        return 16
    return 16 if image.format == "PPM" and any(isinstance(part, int) and part > 255 for part in parts) else 8
