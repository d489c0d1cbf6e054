"""Optimizers of other packages: what a name builds, and what is said where it cannot."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from sgabench.errors import InputError
from sgabench.optimizers import packages
from sgabench.plugins import TrainingContext, optimizers

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "optimizers.py"


def build(name: str, **options: Any) -> torch.optim.Optimizer:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))
    plugin = optimizers[name]
    context = TrainingContext(steps=60, steps_per_epoch=20, kinds={})
    built: torch.optim.Optimizer = plugin.build(list(model.named_parameters()), 0, context, **plugin.resolve(options))
    return built


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("try_optimizers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["timm:muon", "timm:adafactorbv", "pytorch_optimizer:soap"])
def test_a_sample_of_the_list_works(script: ModuleType, name: str) -> None:
    """Trains, loses, and goes on from a snapshot to the same bits; benchmarks/optimizers.py tries all."""
    assert script.tried(name, script.data()) == ""


def test_what_does_not_work_has_a_reason(script: ModuleType) -> None:
    assert script.tried("torch:SparseAdam", script.data()).endswith("these networks have dense ones")
    assert script.tried("pytorch_optimizer:scion", script.data()) == script.NO_SNAPSHOT
    found = {"torch": {"Adam": "", "SparseAdam": "a | b"}}
    assert script.section(found).splitlines()[-1] == r"| `torch:SparseAdam` | a \| b |"
    assert script.section(found).startswith(f"**`torch:`** (torch {torch.__version__.split('+')[0]}")


def test_the_list_is_of_the_names_that_there_are(script: ModuleType) -> None:
    """As far as they belong to the versions that it was written with."""
    written = script.PAGE.read_text(encoding="utf-8").partition(script.BEGINS)[2].partition(script.ENDS)[0]
    for source, names in script.names().items():
        package = f"**`{source}:`** ({source} {script.version(source)}): "
        if package not in written:
            continue
        line = next(line for line in written.splitlines() if line.startswith(package))
        for name in names:
            assert f"`{name}`" in line or f"| `{source}:{name}` |" in written, name


def test_timm_builds_what_its_factory_builds() -> None:
    from timm.optim import Lamb, Muon

    lamb = build("timm:lamb", lr=0.01, betas=[0.8, 0.9])
    assert type(lamb) is Lamb
    assert (lamb.defaults["lr"], lamb.defaults["betas"], lamb.defaults["weight_decay"]) == (0.01, (0.8, 0.9), 0.0)
    assert type(build("timm:muon")) is Muon
    assert build("timm:rmsproptf").defaults["momentum"] == 0.9


def test_matrices_go_to_muon_and_the_rest_to_adamw() -> None:
    muon, adamw = build("pytorch_optimizer:muon", lr=0.03, adamw_lr=0.002).param_groups
    assert (muon["lr"], muon["use_muon"], muon["param_names"]) == (0.03, True, ["0.weight", "3.weight"])
    assert (adamw["lr"], adamw["use_muon"]) == (0.002, False)
    assert adamw["param_names"] == ["0.bias", "1.weight", "1.bias", "3.bias"]


def test_optimizers_that_need_the_number_of_steps_get_it() -> None:
    optimizer = build("pytorch_optimizer:ranger21", num_warm_up_iterations=5, num_warm_down_iterations=10)
    assert optimizer.start_warm_down == 50  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("timm:lamp", {}, "timm has no optimizer 'lamp'; did you mean 'lamb'"),
        ("timm:lamb", {"beta": 0.9}, "beta: lamb has no such option; did you mean 'betas'"),
        ("timm:sgdp", {}, "timm's sgdp refuses its options: .* lr"),
        ("timm:adafactor", {}, "timm:adafactor has no learning rate of its own .*; set lr"),
        ("timm:adahessian", {}, "gradients of gradients"),
        ("timm:bnbadam", {}, "timm has no optimizer 'bnbadam'"),
        ("schedulefree:Adam", {}, "schedulefree has no optimizer 'Adam'; did you mean 'RAdam' or 'AdamW'"),
        ("schedulefree:AdamW", {"wd": 0.1}, "wd: AdamW has no such option"),
        ("pytorch_optimizer:SOAP", {}, "pytorch_optimizer has no optimizer 'SOAP'; did you mean 'soap'"),
        ("pytorch_optimizer:lomo", {}, "pytorch_optimizer:lomo takes a whole network"),
        ("pytorch_optimizer:soap", {"lr": -1.0}, "pytorch_optimizer.SOAP refuses its options: "),
    ],
)
def test_what_cannot_be_built_is_explained_in_one_line(name: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        build(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["schedulefree", "pytorch_optimizer"])
def test_a_package_that_is_missing_is_named_with_its_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"the package {package} is not installed: pip install 'sgabench\[optimizers\]'"
    with pytest.raises(InputError, match=message):
        build(f"{package}:soap")


def test_a_name_without_its_source_is_found() -> None:
    with pytest.raises(InputError, match="did you mean 'pytorch_optimizer:muon' or 'timm:muon' or 'torch:Muon'"):
        optimizers["muon"]
    with pytest.raises(InputError, match="did you mean 'pytorch_optimizer:soap'"):
        optimizers["SOAP"]


def test_names_of_other_packages_need_no_cuda() -> None:
    assert not [name for name in packages.timm_names() if "8bit" in name]
