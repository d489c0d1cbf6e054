"""Accuracy on corrupted images, as in CIFAR-10-C (Hendrycks & Dietterich 2019, arXiv 1903.12261)."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from sgabench.errors import InputError
from sgabench.system.seeds import derive_seed

if TYPE_CHECKING:
    from sgabench.plugins import PruningContext

Image = NDArray[Any]  # (C, H, W)
_Corrupt = Callable[[Image, float, np.random.Generator], Image]

# From make_cifar_c.py of the benchmark's authors; milder than those of ImageNet-C.
CONSTANTS = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation
    "shot_noise": (500, 250, 100, 75, 50),  # photons of a white pixel
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),  # fraction of the values
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),  # standard deviation in pixels
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),  # added
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # remaining fraction
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),  # fraction of the size
    "jpeg_compression": (80, 65, 58, 50, 40),  # quality
}


def accuracy_on_corrupted(
    network: nn.Module, context: PruningContext, kinds: Sequence[str], strengths: Sequence[int]
) -> dict[str, Any]:
    """Top-1 on the test split with each of the requested corruptions.

    Returns:
        ``mean``, over kinds and strengths; the mean over strengths by kind; ``by_strength``: for each kind, that at
        each strength.
    """
    assert context.evaluate is not None
    found: dict[str, dict[str, float]] = {}
    for kind in kinds:
        found[kind] = {}
        for strength in strengths:
            change = _changed(kind, strength)
            found[kind][str(strength)] = context.evaluate(network, change)["top1"]
    means = {kind: sum(values.values()) / len(values) for kind, values in found.items()}
    return {"mean": sum(means.values()) / len(means), **means, "by_strength": found}


def _changed(kind: str, strength: int) -> Callable[[Tensor, int], Tensor]:
    return lambda images, first: corrupted(images, first, kind, strength)


def corrupted(images: Tensor, first: int, kind: str, strength: int) -> Tensor:
    """Corrupt images.

    On the CPU, image by image. Random numbers depend only on the position of the image in its split, the kind and the
    strength, so the bits are the same for any batch size and device.

    Args:
        images: uint8 (N, C, H, W).
        first: position of the first one.
        kind: of `CONSTANTS`.
        strength: 1 to 5.

    Returns:
        The shape and the type of the images, on their device.

    Raises:
        InputError: JPEG of images that are neither grey nor in three colours.
    """
    constant, change = CONSTANTS[kind][strength - 1], _KINDS[kind]
    before = images.cpu().numpy()
    after = np.empty_like(before)
    for place, image in enumerate(before):
        generator = np.random.default_rng(derive_seed(first + place, "corruption", kind, strength))
        made = change(image, constant, generator)
        # integers as in the files of CIFAR-10-C: truncated, not rounded
        after[place] = made if made.dtype == np.uint8 else (made.clip(0, 1) * 255).astype(np.uint8)
    return torch.from_numpy(after).to(images.device)


def _gaussian_noise(image: Image, constant: float, generator: np.random.Generator) -> Image:
    noisy: Image = image / 255 + generator.normal(scale=constant, size=image.shape)
    return noisy


def _shot_noise(image: Image, constant: float, generator: np.random.Generator) -> Image:
    return generator.poisson(image / 255 * constant) / constant


def _impulse_noise(image: Image, constant: float, generator: np.random.Generator) -> Image:
    """Salt and pepper, value by value: each colour of a pixel independently."""
    hit, salt = generator.random(image.shape) < constant, generator.random(image.shape) < 0.5
    return np.where(hit, salt, image / 255)


def _gaussian_blur(image: Image, constant: float, _: np.random.Generator) -> Image:
    blurred: Image = gaussian_filter(image / 255, sigma=(0, constant, constant), mode="nearest")
    return blurred


def _brightness(image: Image, constant: float, _: np.random.Generator) -> Image:
    """Add to the value in HSV, the largest of the colours; black becomes grey."""
    pixels = image / 255
    value = pixels.max(axis=0)
    brighter: Image = (value + constant).clip(max=1)
    return np.where(value > 0, pixels / np.where(value > 0, value, 1), 1) * brighter


def _contrast(image: Image, constant: float, _: np.random.Generator) -> Image:
    pixels = image / 255
    means = pixels.mean(axis=(1, 2), keepdims=True)
    less: Image = (pixels - means) * constant + means
    return less


def _pixelate(image: Image, constant: float, _: np.random.Generator) -> Image:
    from PIL import Image as Pillow

    height, width = image.shape[1:]
    small = max(1, int(width * constant)), max(1, int(height * constant))
    box = Pillow.Resampling.BOX
    planes = [Pillow.fromarray(plane).resize(small, box).resize((width, height), box) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


def _jpeg_compression(image: Image, constant: float, _: np.random.Generator) -> Image:
    from PIL import Image as Pillow

    if len(image) not in (1, 3):
        raise InputError(f"jpeg_compression: needs images of 1 or 3 channels, not {len(image)}; leave it out of kinds")
    content = io.BytesIO()
    laid_out = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    Pillow.fromarray(laid_out).save(content, "JPEG", quality=int(constant))
    read = np.asarray(Pillow.open(content))
    return read[None] if len(image) == 1 else read.transpose(2, 0, 1)


_KINDS: dict[str, _Corrupt] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "gaussian_blur": _gaussian_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
