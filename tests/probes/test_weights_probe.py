"""The probe of weights, on weights whose statistics are known."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sgabench.plugins import ImageSpec, PruningContext, probes

CONTEXT = PruningContext(ImageSpec(1, 1, 1, 1), 0, lambda: iter(()), frozenset({"0"}))


def probe(network: nn.Module, **options: Any) -> dict[str, Any]:
    """Run it, and take the result through JSON as the store does."""
    result = json.loads(json.dumps(probes["weights"].build(network, CONTEXT, **options), allow_nan=False))
    assert isinstance(result, dict)
    return result


def layers(*values: list[float]) -> nn.Sequential:
    network = nn.Sequential(*(nn.Linear(len(row), 1) for row in values))
    with torch.no_grad():
        for layer, row in zip(network, values, strict=True):
            layer.weight.copy_(torch.tensor([row]))  # type: ignore[operator]
    return network


def test_statistics_by_hand() -> None:
    result = probe(layers([0.0, 0.0, -1.0, 0.1], [2.0, 2.0]))
    layer = result["layers"]["0"]
    values = np.array([0.0, 0.0, -1.0, 0.1])
    assert layer["count"] == 4
    assert layer["zeros"] == 2
    assert layer["mean"] == pytest.approx(values.mean())
    assert layer["std"] == pytest.approx(values.std())
    assert layer["kurtosis"] == pytest.approx(((values - values.mean()) ** 4).mean() / values.var() ** 2 - 3)
    assert layer["quantiles"]["0.5"] == pytest.approx(0.05)
    assert layer["quantiles"]["0.99"] == pytest.approx(np.quantile(abs(values), 0.99))
    everything = np.append(values, [2.0, 2.0])
    assert result["all"]["count"] == 6
    assert result["all"]["mean"] == pytest.approx(everything.mean())
    assert result["all"]["std"] == pytest.approx(everything.std())
    assert list(result["layers"]) == ["0", "1"], "the excluded layer is described, too"


def test_normal_weights_have_no_excess_kurtosis_and_heavy_tails_have() -> None:
    network = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        network[0].weight.normal_(0, 0.02, generator=generator)
        network[1].weight.copy_(network[0].weight ** 3)
    result = probe(network)["layers"]
    assert result["0"]["kurtosis"] == pytest.approx(0, abs=0.1)
    assert result["0"]["std"] == pytest.approx(0.02, rel=0.02)
    assert result["1"]["kurtosis"] > 10


def test_the_histogram_holds_every_weight_that_is_not_zero() -> None:
    result = probe(layers([1e-20, 1e-5, -1e-5, 0.02, 0.02, 50.0, 0.0]), bins=7)
    assert result["edges"] == pytest.approx([-6, -5, -4, -3, -2, -1, 0, 1])
    histogram = result["layers"]["0"]["histogram"]
    assert sum(histogram) == 6
    assert histogram[0] >= 1, "what is smaller than all edges"
    assert histogram[-1] == 1, "what is greater than all edges"
    assert histogram[4] == 2


def test_histograms_of_different_networks_have_the_same_edges() -> None:
    small, large = probe(layers([1e-4])), probe(layers([3.0]))
    assert small["edges"] == large["edges"]
    assert len(small["edges"]) == len(small["all"]["histogram"]) + 1 == 65


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_equal_weights_have_no_kurtosis(value: float) -> None:
    layer = probe(layers([value] * 4))["layers"]["0"]
    assert layer["kurtosis"] is None
    assert layer["std"] == 0
    assert layer["zeros"] == (0 if value else 4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_layer_that_is_not_finite_spoils_its_own_statistics_and_those_of_all(value: float) -> None:
    result = probe(layers([1.0, value], [1.0, 2.0]))
    assert result["layers"]["0"]["mean"] is None
    assert result["layers"]["0"]["count"] == 2
    assert result["layers"]["1"]["mean"] == 1.5
    assert result["all"]["quantiles"] is None
    assert set(result["layers"]["0"]) == set(result["layers"]["1"])


def test_moments_do_not_suffer_from_single_precision() -> None:
    layer = probe(layers([1000.0, 1000.001] * 500))["layers"]["0"]
    step = float(torch.tensor(1000.001)) - 1000.0
    assert layer["std"] == pytest.approx(step / 2, rel=1e-6)


def test_a_network_without_weights_is_described_as_such() -> None:
    result = probe(nn.ReLU())
    assert result["layers"] == {}
    assert result["all"]["count"] == 0


def test_the_network_is_left_as_it_was() -> None:
    network = layers([0.5, -0.5])
    before = copy.deepcopy(network.state_dict())
    probe(network)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert network.training


def test_options_are_checked() -> None:
    assert probes["weights"].tags["on"] == "dense"
    with pytest.raises(ValueError, match="bins"):
        probes["weights"].resolve({"bins": 1})
