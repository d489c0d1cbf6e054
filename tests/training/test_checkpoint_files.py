"""Files of weights as people have them: plain, nested, with prefixes, and what cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from sgabench.errors import InputError
from sgabench.suite.checkpoints import Checkpoint
from sgabench.suite.choices import Choice
from sgabench.training.checkpoints import load_checkpoint, read_weights


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))


def checkpoint(path: Path) -> Checkpoint:
    model, none = Choice("m", "my model", {}), Choice("none", "mine", {})
    return Checkpoint(model, none, path, 0, False).with_content()


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "form",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "best": 0.5},
        lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        lambda state: {"model_state_dict": prefixed("module.", state), "loss": torch.tensor(1.0)},
        lambda state: prefixed("module._orig_mod.", state),
        lambda state: {"state_dict": prefixed("model.", state), "pytorch-lightning_version": "2"},
        lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
        lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
    ],
    ids=["plain", "state_dict", "model", "DataParallel", "compiled", "Lightning", "half", "without counters"],
)
def test_a_state_dict_is_found_where_training_scripts_put_it(form: Any, tmp_path: Path) -> None:
    trained, loaded = network(), network()
    for parameter in trained.parameters():
        nn.init.constant_(parameter, 0.25)
    torch.save(form(trained.state_dict()), tmp_path / "a.pth")
    load_checkpoint(loaded, checkpoint(tmp_path / "a.pth"))
    assert all(bool((parameter == 0.25).all()) for parameter in loaded.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())


def test_a_network_whose_part_is_called_model_keeps_its_names(tmp_path: Path) -> None:
    whole = nn.ModuleDict({"model": network()})
    torch.save(prefixed("module.", whole.state_dict()), tmp_path / "a.pt")
    load_checkpoint(whole, checkpoint(tmp_path / "a.pt"))


def test_safetensors_are_read(tmp_path: Path) -> None:
    safetensors.torch.save_file(network().state_dict(), tmp_path / "a.safetensors")
    load_checkpoint(network(), checkpoint(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.bias": None}, "missing 0.bias$"),
        ({"9.weight": torch.zeros(1)}, "unexpected 9.weight$"),
        ({f"{n}.weight": None for n in (0, 1, 2)} | {"0.bias": None}, "missing 0.weight, 0.bias, 1.weight and 1 more$"),
        ({"2.weight": torch.zeros(7, 2)}, "2.weight is 7 x 2 in the file and 3 x 2 in the network$"),
        ({"2.bias": None, "head.bias": torch.zeros(3)}, "missing 2.bias; unexpected head.bias$"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    state = {**network().state_dict(), **change}
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=f"a.pt does not fit model 'my model': {message}"):
        load_checkpoint(network(), checkpoint(tmp_path / "a.pt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (network(), "contains more than tensors, and reading it would run code; save network.state_dict"),
        ([1, 2], "holds list, not the state dict"),
        ({}, "holds dict, not the state dict"),
        ({"epoch": 3, "weights": torch.zeros(1)}, "besides tensors, it has epoch"),
    ],
)
def test_a_file_of_something_else_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=message):
        read_weights(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", bytes(1000)])
def test_a_damaged_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: (cannot be read as weights|has more in it)"):
        read_weights(tmp_path / name)


def test_a_file_that_was_changed_since_is_refused(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "a.pt")
    known = checkpoint(tmp_path / "a.pt")
    torch.save(network().state_dict(), tmp_path / "a.pt")
    with pytest.raises(InputError, match="was changed during the run"):
        load_checkpoint(network(), known)
