"""The data sets that a suite can name.

A data set is a function of the data folder and of whether it may be downloaded.
It returns a `sgabench.datasets.base.Dataset`, or raises `sgabench.errors.InputError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from sgabench.datasets.decoding import Decoding
from sgabench.datasets.folders import DrawnSplit, folder_fingerprint, folder_listing
from sgabench.datasets.huggingface import huggingface_fingerprint, huggingface_listing
from sgabench.datasets.ilsvrc import imagenet_fingerprint, imagenet_listing, tiny_imagenet_listing
from sgabench.datasets.pictures import Background
from sgabench.plugins import datasets

if TYPE_CHECKING:
    from sgabench.datasets.base import Dataset
else:
    Dataset = Any  # the registry evaluates annotations, and torch must not be imported for that

ImageSize = Annotated[int, Field(ge=4, le=1024)]


def _decoding(options: Mapping[str, Any]) -> Decoding:
    return Decoding(options["image_size"], options.get("channels", 3), options.get("background", "white"))


@datasets.register("digits", images=(1437, 360), classes=10)
def digits(data_dir: Path, download: bool) -> Dataset:
    """Handwritten digits, 1 x 8 x 8, 10 classes, 1437 + 360 images; comes with scikit-learn."""
    from sgabench.datasets.embedded import load_digits

    return load_digits()


@datasets.register("cifar10", images=(50_000, 10_000), classes=10)
def cifar10(data_dir: Path, download: bool) -> Dataset:
    """CIFAR-10: photographs, 3 x 32 x 32, 10 classes, 50,000 + 10,000 images."""
    from sgabench.datasets.cifar import load_cifar10

    return load_cifar10(data_dir, download)


@datasets.register("cifar100", images=(50_000, 10_000), classes=100)
def cifar100(data_dir: Path, download: bool, *, labels: Literal["fine", "coarse"] = "fine") -> Dataset:
    """CIFAR-100: photographs, 3 x 32 x 32, 100 fine or 20 coarse classes, 50,000 + 10,000 images."""
    from sgabench.datasets.cifar import load_cifar100

    return load_cifar100(data_dir, download, labels)


@datasets.register("fashion_mnist", images=(60_000, 10_000), classes=10)
def fashion_mnist(data_dir: Path, download: bool) -> Dataset:
    """Fashion-MNIST: articles of clothing, 1 x 28 x 28, 10 classes, 60,000 + 10,000 images."""
    from sgabench.datasets.fashion import load_fashion_mnist

    return load_fashion_mnist(data_dir, download)


@datasets.register("svhn", images=(73_257, 26_032), classes=10)
def svhn(data_dir: Path, download: bool) -> Dataset:
    """SVHN: digits of house numbers, 3 x 32 x 32, 10 classes, 73,257 + 26,032 images."""
    from sgabench.datasets.street_view import load_svhn

    return load_svhn(data_dir, download)


@datasets.register(
    "tiny_imagenet", images=(100_000, 10_000), classes=200, listing=tiny_imagenet_listing, decoding=_decoding
)
def tiny_imagenet(data_dir: Path, download: bool, *, image_size: ImageSize = 64) -> Dataset:
    """Tiny ImageNet: photographs, 3 x 64 x 64, 200 classes, 100,000 + 10,000 images."""
    from sgabench.datasets.ilsvrc import load_tiny_imagenet

    return load_tiny_imagenet(data_dir, download, image_size)


@datasets.register("imagenet", fingerprint=imagenet_fingerprint, listing=imagenet_listing, decoding=_decoding)
def imagenet(
    data_dir: Path,
    download: bool,
    *,
    path: Annotated[str, Field(min_length=1)] = "imagenet",
    image_size: ImageSize = 224,
) -> Dataset:
    """ImageNet (ILSVRC 2012), or a subset of it: PATH/train/CLASS/*.JPEG and PATH/val/CLASS/*.JPEG; not downloaded."""
    from sgabench.datasets.ilsvrc import load_imagenet

    return load_imagenet(data_dir, path, image_size)


# Revision 2: turned as EXIF data say, transparency laid on a background.
@datasets.register("folder", fingerprint=folder_fingerprint, listing=folder_listing, decoding=_decoding, revision=2)
def folder(
    data_dir: Path,
    download: bool,
    *,
    path: Annotated[str, Field(min_length=1)],
    image_size: ImageSize = 32,
    channels: Literal[1, 3] = 3,
    background: Background = "white",
    split: DrawnSplit | None = None,
) -> Dataset:
    """Your own images: PATH/train/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/* with split = {test = 0.2}."""
    from sgabench.datasets.folders import load_folder

    return load_folder(data_dir, path, image_size, channels, background, split)


@datasets.register("huggingface", fingerprint=huggingface_fingerprint, listing=huggingface_listing, decoding=_decoding)
def huggingface(
    data_dir: Path,
    download: bool,
    *,
    path: Annotated[str, Field(min_length=1)],
    image_size: ImageSize = 32,
    channels: Literal[1, 3] = 3,
    background: Background = "white",
    image: str | None = None,
    label: str | None = None,
    train: str = "train",
    test: str = "test",
    split: DrawnSplit | None = None,
) -> Dataset:
    """Data that save_to_disk of Hugging Face's library datasets wrote to the folder PATH (extra huggingface)."""
    from sgabench.datasets.huggingface import load_huggingface

    options = {"path": path, "image": image, "label": label, "train": train, "test": test, "split": split}
    return load_huggingface(data_dir, options, Decoding(image_size, channels, background))
