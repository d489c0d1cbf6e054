"""What a suite can say about models."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from sgabench.errors import InputError
from sgabench.models import CIFAR_RESNETS
from sgabench.plugins import ImageSpec, models

SPEC = ImageSpec(channels=3, height=32, width=32, classes=10)


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys; from sgabench.plugins.registry import models; "
        "described = [(p.parameters, p.description) for p in [*models.plugins(), *models.sources()]]; "
        "assert all(text for _, text in described); "
        "sys.exit('torch' in sys.modules or len(described))"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False)
    assert result.returncode >= len(CIFAR_RESNETS) + 2  # 1 would say that torch was imported


@pytest.mark.parametrize("depth", CIFAR_RESNETS)
def test_descriptions_state_the_true_size(depth: int) -> None:
    network = models[f"resnet{depth}"].build(SPEC)
    size = sum(p.numel() for p in network.parameters())
    assert f"{depth} layers, {size / 1e6:.2f} M parameters" in models[f"resnet{depth}"].description


def test_options_reach_the_network() -> None:
    network = models["resnet8"].build(SPEC, shortcut="B", width=2)
    assert network.layer2[0].shortcut[0].weight.shape == (4, 2, 1, 1)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("options", [{"shortcut": "C"}, {"width": 0}, {"widht": 8}])
def test_wrong_options_are_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))}: .*'resnet20'"):
        models["resnet20"].resolve(options)


def test_sources_have_defaults_and_take_other_options() -> None:
    plugin = models["timm:resnet18"]
    assert plugin.takes_any_option
    assert plugin.resolve({"drop_rate": 0.1}) == {"stem": "default", "drop_rate": 0.1}
    with pytest.raises(InputError, match=r"stem: .*timm:resnet18"):
        plugin.resolve({"stem": "imagenet"})
