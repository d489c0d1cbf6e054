"""Published weights without a network: the caches of timm and torchvision, filled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn


def fill_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are all 1/8, of timm's test_resnet and torchvision's squeezenet1_1; there are no others."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = timm.get_pretrained_cfg("test_resnet").hf_hub_id.replace("/", "--")
    snapshot = tmp_path / "hub" / f"models--{name}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    safetensors.torch.save_file(_eighths(timm.create_model("test_resnet")), snapshot / "model.safetensors")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url
    path = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(_eighths(torchvision.models.squeezenet1_1()), path)


def _eighths(network: nn.Module) -> dict[str, Any]:
    return {name: torch.full_like(value, 1 / 8) for name, value in network.state_dict().items()}
