"""What goes together: the matrix of a layer, N:M along input channels, blocks, filters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sgabench.plugins import ImageSpec, PruningContext, pruners
from sgabench.pruners.parts import Pattern, read_pattern
from sgabench.pruners.patterns import as_rows, removable, units_of

EVERYTHING = PruningContext(ImageSpec(3, 8, 8, 5), 0, lambda: iter(()), frozenset())


def test_rows_are_output_channels_and_columns_end_with_input_channels() -> None:
    layer = nn.Conv2d(4, 6, (2, 3), groups=2)
    rows = as_rows(layer, layer.weight)
    assert rows.shape == (6, 6, 2)
    assert rows[5, 4, 1] == layer.weight[5, 1, 1, 1]


def test_a_transposed_convolution_has_its_output_channels_second() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False)
    rows = as_rows(layer, layer.weight)
    assert rows.shape == (6, 9, 2)
    kept = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.copy_(torch.where(units_of(layer, layer.weight, Pattern("filters")) == 4, 0.0, kept))
    silent = layer(torch.randn(1, 4, 3, 3)).abs().sum((0, 2, 3)) == 0
    assert silent.tolist() == [False] * 4 + [True, False]


def test_two_of_four_input_channels_stay() -> None:
    layer = nn.Linear(6, 2)
    scores = torch.tensor([[4.0, 1.0, 3.0, 2.0, 9.0, 8.0], [1.0, 1.0, 1.0, 1.0, 0.0, 5.0]])
    expected = [[False, True, False, True, False, False], [True, True, False, False, False, False]]
    assert removable(layer, scores, read_pattern("2:4")).tolist() == expected
    one = removable(layer, scores, read_pattern("1:4")).tolist()
    assert one[0] == [False, True, True, True, False, True], "of the two that are left over one stays, too"


def test_blocks_at_the_end_are_as_large_as_is_left() -> None:
    layer = nn.Linear(5, 3)
    assert units_of(layer, layer.weight, read_pattern({"block": [2, 3]})).tolist() == [
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
        [2, 2, 2, 3, 3],
    ]


def test_blocks_of_a_convolution_are_of_channels() -> None:
    layer = nn.Conv2d(4, 4, 3, bias=False)
    with torch.no_grad():
        layer.weight[:2, 2:, 1, 1] = 1e-3
    pruned = pruners["magnitude"].build(layer, 4 / layer.weight.numel(), EVERYTHING, pattern={"block": [2, 2]})
    gone = (pruned.weight == 0).nonzero().tolist()
    assert gone == [[0, 2, 1, 1], [0, 3, 1, 1], [1, 2, 1, 1], [1, 3, 1, 1]]


@pytest.mark.parametrize(("ratio", "filters"), [(0.1, 0), (0.15, 1), (0.6, 2), (0.65, 3), (0.9, 4)])
def test_as_many_filters_go_as_come_nearest(ratio: float, filters: int) -> None:
    layer = nn.Linear(10, 4)
    pruned = pruners["magnitude"].build(layer, ratio, EVERYTHING, pattern="filters")
    assert int((pruned.weight == 0).all(1).sum()) == filters
    assert int((pruned.weight == 0).sum()) == 10 * filters


def test_a_group_counts_by_the_mean_of_its_weights() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 1.0], [5.0, 5.0]]))
        network[1].weight.copy_(torch.tensor([[0.5, 1.0]]))
    pruned = pruners["magnitude"].build(network, 1 / 3, EVERYTHING, pattern="filters")
    assert not pruned[1].weight.any()
    assert bool(pruned[0].weight.all())
