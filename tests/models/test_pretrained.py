"""Published weights of timm and torchvision, from their caches: no test reaches the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from published import fill_caches
from torch import nn

from sgabench.errors import InputError
from sgabench.models.pretrained import published_normalization, published_weights
from sgabench.plugins import ImageSpec, models

COLOUR, GREY = ImageSpec(3, 64, 64, 1000), ImageSpec(1, 32, 32, 5)
TIMM, TORCHVISION = "timm:test_resnet", "torchvision:squeezenet1_1"


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries' caches with weights that are all 1/8, and no network."""
    fill_caches(tmp_path, monkeypatch)


def _loaded(network: nn.Module) -> list[str]:
    return [name for name, p in network.named_parameters() if not bool((p == 1 / 8).all())]


@pytest.mark.parametrize("name", [TIMM, TORCHVISION])
def test_of_the_same_classes_everything_is_loaded(name: str) -> None:
    network = models[name].build(COLOUR, pretrained=True)
    assert _loaded(network) == []
    published = published_weights(network)
    assert published is not None
    assert published["replaced"] == []
    assert published["weights"] in ("timm/test_resnet.r160_in1k", "SqueezeNet1_1_Weights.IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("name", "classifier", "first"), [(TIMM, "fc", "conv1.0"), (TORCHVISION, "classifier.1", "features.0")]
)
def test_the_classifier_is_replaced_and_the_input_fitted(name: str, classifier: str, first: str) -> None:
    network = models[name].build(GREY, pretrained=True)
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 5)
    assert _loaded(network) == [f"{first}.weight", f"{classifier}.weight", f"{classifier}.bias"]
    weight = network.get_parameter(f"{first}.weight").detach()
    assert torch.allclose(weight, torch.tensor(3 / 8)), "as if the image was in all three channels"
    assert sorted(published_weights(network)["replaced"]) == sorted([classifier, first])  # type: ignore[index]


def test_untrained_is_the_default_and_in_no_key() -> None:
    for name in (TIMM, TORCHVISION):
        assert models[name].resolve({}) == {"stem": "default"}
        assert models[name].resolve({"pretrained": True}) == {"stem": "default", "pretrained": True}
        assert published_weights(models[name].build(GREY)) is None
        assert len(_loaded(models[name].build(GREY))) > 4


def test_unavailable_weights_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="model 'timm:test_vit': its published weights are not available, or"):
        models["timm:test_vit"].build(COLOUR, pretrained=True)
    with pytest.raises(InputError, match=r"'timm:resnet18d\.nobody'"):
        models["timm:resnet18d.nobody"].build(COLOUR, pretrained=True)


def test_the_normalization_is_that_of_the_weights() -> None:
    mean, std = published_normalization(TORCHVISION)
    assert (mean, std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert published_normalization("timm:vit_tiny_patch16_224")[0] == (0.5, 0.5, 0.5)
    for name in ("resnet8", "timm:resnet18.nobody"):
        with pytest.raises(InputError, match=f"no weights of '{name}' are published; write normalize = "):
            published_normalization(name)
    for source, listed in (("timm", r"timm.list_models\(\)"), ("torchvision", r"torchvision.models.list_models\(\)")):
        with pytest.raises(InputError, match=f"unknown model '{source}:xxxxxx'; see {listed}$"):
            published_normalization(f"{source}:xxxxxx")
