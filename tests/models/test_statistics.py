"""Statistics of BatchNorm from batches of which the last has one image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sgabench.models.statistics import reestimate_batch_norm


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.BatchNorm1d(6))


def spread() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))


def statistics(network: nn.Module, *batches: Tensor) -> list[Tensor]:
    reestimate_batch_norm(network, [(images, None) for images in batches])
    norm = network[-1]  # type: ignore[index]
    return [norm.running_mean.clone(), norm.running_var.clone()]


def test_one_image_that_is_left_over_is_put_to_the_batch_before_where_it_has_no_variance() -> None:
    images, network = torch.randn(9, 3, 4, 4), flat()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        network.train()(images[:1])
    for ours, expected in zip(
        statistics(network, images[:4], images[4:8], images[8:]),
        statistics(network, images[:4], images[4:]),
        strict=True,
    ):
        assert torch.equal(ours, expected)
    assert network[-1].num_batches_tracked == 2  # type: ignore[index]


def test_where_it_has_one_it_stays_a_batch_of_its_own() -> None:
    images, network = torch.randn(9, 3, 4, 4), spread()
    statistics(network, images[:8], images[8:])
    assert network[-1].num_batches_tracked == 2  # type: ignore[index]


def test_a_single_image_alone_has_none() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        statistics(flat(), torch.randn(1, 3, 4, 4))
