"""The data set that is always there: scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits as sklearn_digits

from sgabench.datasets.base import Dataset, stratified_choice

TEST_SIZE = 360


def load_digits() -> Dataset:
    """1797 digits of 8 x 8 pixels in 17 shades, scaled to 0..255.

    There is no published split of these: a fifth of each class, drawn once and for all, is the test
    split. Source: UCI "Optical Recognition of Handwritten Digits", its test part.
    """
    bunch = sklearn_digits()
    shades = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = torch.from_numpy(shades)[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
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
