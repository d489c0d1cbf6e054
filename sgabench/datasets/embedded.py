"""The data set that needs no download: scikit-learn's handwritten digits."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from sgabench.datasets.base import Dataset, stratified_choice
from sgabench.errors import InputError

TEST_SIZE = 360


def load_digits() -> Dataset:
    """1797 digits of 8 x 8 pixels in 17 shades, scaled to 0..255.

    There is no published split: the test split is a fifth of each class, drawn once and for all.
    Source: UCI "Optical Recognition of Handwritten Digits", its test part.

    Raises:
        InputError: scikit-learn's installation is damaged.
    """
    rows = _rows()
    shades = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = torch.from_numpy(shades)[:, None]
    labels = torch.from_numpy(rows[:, -1].astype(np.int64))
    test = stratified_choice(labels, TEST_SIZE, "test split of digits")
    in_training = torch.ones(len(labels), dtype=torch.bool)
    in_training[test] = False
    return Dataset(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        train_images=images[in_training],
        train_labels=labels[in_training],
        test_images=images[test],
        test_labels=labels[test],
    )


def _rows() -> np.ndarray:
    """Each digit's 64 shades and its label, from scikit-learn's file: importing scikit-learn takes a second."""
    package = find_spec("sklearn")
    places = package.submodule_search_locations if package else None
    if not places:
        raise InputError("data set 'digits': scikit-learn is missing; install it again")
    file = Path(places[0]) / "datasets" / "data" / "digits.csv.gz"
    try:
        return np.loadtxt(file, delimiter=",")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"data set 'digits': {file}: {error}; install scikit-learn again") from None
