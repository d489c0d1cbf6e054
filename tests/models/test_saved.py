"""Pruned networks on disk: built again, exported, damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sgabench import load_network
from sgabench.errors import InputError
from sgabench.models.exported import export_onnx, export_program
from sgabench.models.saved import save_network
from sgabench.plugins import ImageSpec, PruningContext, models, pruners

SPEC = ImageSpec(channels=3, height=16, width=16, classes=5)
CONTEXT = PruningContext(SPEC, 0, lambda: iter(()), frozenset({"conv1", "fc"}))
VIT = {"patch_size": 4, "depth": 1, "embed_dim": 24, "num_heads": 3}


def pruned(name: str = "resnet8", pruner: str = "structured", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    network = models[name].build(SPEC, **options).eval()
    plugin = pruners[pruner]
    excluded = CONTEXT if "resnet" in name else PruningContext(SPEC, 0, CONTEXT.batches, frozenset({"head"}))
    return plugin.build(network, 0.5, excluded, **plugin.resolve({})).eval()  # type: ignore[no-any-return]


def images(number: int = 6) -> torch.Tensor:
    return torch.randn(number, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("name", "pruner", "options"),
    [
        ("resnet8", "structured", {"width": 8}),
        ("resnet8", "magnitude", {"width": 8}),
        ("timm:vit_tiny_patch16_224", "structured", VIT),
    ],
)
def test_a_pruned_network_is_built_again(name: str, pruner: str, options: dict[str, Any], tmp_path: Path) -> None:
    network = pruned(name, pruner, **options)
    save_network(network, tmp_path / "kept.safetensors", name, options, SPEC, {"note": "mine"})
    description = json.loads((tmp_path / "kept.json").read_text())
    assert (description["note"], description["model"]) == ("mine", {"name": name, "options": options})
    assert bool(description["modules"]) == (pruner == "structured")
    random_state = torch.get_rng_state()
    again = load_network(tmp_path / "kept.safetensors")
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not again.training
    assert torch.equal(again(images()), network(images()))
    assert [p.shape for p in again.parameters()] == [p.shape for p in network.parameters()]


def test_what_layers_share_they_share_again(tmp_path: Path) -> None:
    def tied(spec: ImageSpec) -> nn.Module:
        network = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 5))
        network[2].weight = network[3].weight
        return network

    models.register("tied")(tied)
    save_network(tied(SPEC).eval(), tmp_path / "kept.safetensors", "tied", {}, SPEC, {})
    again: Any = load_network(tmp_path / "kept.safetensors")
    assert again[2].weight is again[3].weight


def test_a_network_that_is_not_what_its_model_makes_is_refused(tmp_path: Path) -> None:
    network: Any = pruned(width=8)
    network.layer1[0].conv1 = nn.Identity()
    with pytest.raises(InputError, match="the network's modules are not those that model 'resnet8' makes"):
        save_network(network, tmp_path / "kept.safetensors", "resnet8", {"width": 8}, SPEC, {})
    network = pruned(width=8)
    network.forward = lambda x: network.fc(network.fc.weight.new_zeros(len(x), network.fc.in_features))
    with pytest.raises(InputError, match="gives different logits"):
        save_network(network, tmp_path / "kept.safetensors", "resnet8", {"width": 8}, SPEC, {})
    assert list(tmp_path.iterdir()) == []


def _no_json(folder: Path) -> None:
    (folder / "kept.json").unlink()


def _other_format(folder: Path) -> None:
    description = json.loads((folder / "kept.json").read_text())
    (folder / "kept.json").write_text(json.dumps({**description, "format": 2}))


def _other_bytes(folder: Path) -> None:
    content = (folder / "kept.safetensors").read_bytes()
    (folder / "kept.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _other_numbers(folder: Path) -> None:
    description = json.loads((folder / "kept.json").read_text())
    (folder / "kept.json").write_text(json.dumps({**description, "modules": {"no.such": {"in_channels": 3}}}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_json, "kept.json: No such file"),
        (lambda folder: (folder / "kept.json").write_text("{"), "kept.json: not the description of a network"),
        (_other_format, "kept.json: format must be 1, got 2"),
        (_other_bytes, "kept.safetensors: damaged: its checksum is not the one in kept.json"),
        (_other_numbers, "kept.json: does not fit its weights"),
    ],
)
def test_what_is_damaged_is_one_line(damage: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    save_network(pruned(width=8), tmp_path / "kept.safetensors", "resnet8", {"width": 8}, SPEC, {})
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        load_network(tmp_path / "kept.safetensors")


class WithTraps(nn.Module):
    """Is another function when it is traced than when it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(768, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1)) + (1.0 if torch.compiler.is_compiling() else 0.0)  # type: ignore[no-any-return]


def test_an_exported_program_gives_the_same_logits(tmp_path: Path) -> None:
    network = pruned(width=8)
    export_program(network, tmp_path / "kept.pt2", SPEC)
    program = torch.export.load(tmp_path / "kept.pt2").module()
    torch.testing.assert_close(program(images()), network(images()), rtol=1e-4, atol=1e-5)


def test_an_exported_program_that_gives_other_logits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"kept\.pt2: the exported network gives different logits"):
        export_program(WithTraps().eval(), tmp_path / "kept.pt2", SPEC)


def test_onnx_gives_the_same_logits(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = pruned(width=8)
    export_onnx(network, tmp_path / "kept.onnx", SPEC)
    session = onnxruntime.InferenceSession(str(tmp_path / "kept.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images().numpy()})
    torch.testing.assert_close(torch.from_numpy(found), network(images()), rtol=1e-4, atol=1e-5)
