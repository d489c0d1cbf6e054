"""The command `bench`, as a user has it. How fast anything is, is not tested."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import called_in_a_fork
from torch import nn

from sgabench.bench.inference import keep_two_of_four, variants_of
from sgabench.bench.pruning import network_of
from sgabench.errors import InputError
from sgabench.optimizers import compiled
from sgabench.plugins import ImageSpec, models, scores

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TINY = ("bench", "optimizers", "--models", "resnet8", "--device", "cpu")


def test_every_optimizer_is_measured_against_fused_adam(sgabench: Run) -> None:
    done = sgabench(*TINY, "--format", "json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["environment"]["device"] == "cpu"
    assert shown["environment"]["packages"]["torch"]
    rows = {row["optimizer"]: row for row in shown["rows"]}
    names = {"Adam, fused", "Adam, foreach", "SGD, fused", "StochGradAdam, foreach", "StochGradAdam, single"}
    names |= {"StochGradAdam, compiled"} if compiled.problem() is None else set()
    assert rows.keys() == names
    network = models["resnet8"].build(ImageSpec(channels=3, height=32, width=32, classes=10))
    size = sum(p.numel() for p in network.parameters())
    for name, row in rows.items():
        assert (row["model"], row["parameters"]) == ("resnet8", size)
        moments = 1 if name.startswith("SGD") else 2
        assert moments * 4 * size <= row["state_bytes"] <= moments * 4 * size + 1000
        assert 0 < row["step_s"][0] <= row["step_s"][1] <= row["step_s"][2]
        assert row["transient_bytes"] >= 0
    assert rows["Adam, fused"]["ratio"] == [1, 1, 1]
    assert rows["StochGradAdam, single"]["ratio"][1] > 0


def test_a_table_says_what_it_means_and_where_it_was_made(tmp_path: Path) -> None:
    nothing_to_compile_with = {"CXX": "no-such-compiler", "XDG_CACHE_HOME": "/dev/null"}
    done = called_in_a_fork(tmp_path, [*TINY, "--channels-last"], nothing_to_compile_with)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = [line for line in lines if "resnet8" in line]
    assert len(rows) == 5
    assert all("0.08 M" in row and " ms" in row and " MB" in row for row in rows)
    assert sum("1.00 [1.00 to 1.00]" in row for row in rows) == 1
    assert "torch " in lines[-1] or "torch " in lines[-2]
    assert any("Left out: StochGradAdam, compiled" in line for line in lines)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A model that runs in no time."""
    path = tmp_path / "small.py"
    path.write_text(
        "from torch import nn\nfrom sgabench.plugins import models\n@models.register('small')\n"
        "def small(spec):\n"
        "    convolutions = [nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU()]\n"
        "    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, spec.classes))\n"
    )
    return path


def test_a_further_ratio_of_each_pruner_is_measured_against_an_evaluation(sgabench: Run, plugin: Path) -> None:
    arguments = ("--models", "small", "--plugin", plugin, "--device", "cpu", "--images", "700")
    done = sgabench("bench", "pruning", *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["subject"], shown["environment"]["device"]) == ("pruning", "cpu")
    names = [score.name for score in scores.plugins()]
    assert [(row["model"], row["pruner"]) for row in shown["rows"]] == [("small", n) for n in [*names, "structured"]]
    for row in shown["rows"]:
        assert row["images"] == 700
        for name in ("evaluation_s", "further_s", "rest_s", "ratio"):
            assert 0 < row[name][0] <= row[name][1] <= row[name][2]
        assert row["first_s"] > 0


def test_inference_is_measured_dense_with_zeros_and_with_fewer_channels(sgabench: Run, plugin: Path) -> None:
    arguments = ("bench", "inference", "--models", "small", "--plugin", plugin, "--device", "cpu", "--format")
    done = sgabench(*arguments, "json")
    assert done.returncode == 0, done.stderr
    rows = {(row["network"], row["batch"]): row for row in json.loads(done.stdout)["rows"]}
    assert rows.keys() == {(name, batch) for name in ("dense", "unstructured", "structured") for batch in (1, 128)}
    for (name, batch), row in rows.items():
        assert row["images_per_s"] == pytest.approx(batch / row["batch_s"][1])
        assert row["speedup"][0] <= row["speedup"][1] <= row["speedup"][2]
        assert (row["speedup"] == [1, 1, 1]) == (name == "dense") == (row["theoretical_speedup"] == 1)
        assert row["transient_bytes"] >= 0
    assert rows["dense", 1]["weights_bytes"] == rows["unstructured", 1]["weights_bytes"]
    assert rows["structured", 1]["weights_bytes"] < 0.8 * rows["dense", 1]["weights_bytes"]


def test_two_of_each_four_weights_stay_where_the_layer_is_linear_and_no_classifier() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(7200, 64), nn.Linear(64, 6), nn.Linear(6, 10))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pruned = keep_two_of_four(network, frozenset({"0", "4"}))
    for name in ("0.weight", "2.bias", "4.weight"):
        assert torch.equal(pruned.state_dict()[name], before[name])
    for name in ("2.weight", "3.weight"):
        weight, fours = pruned.get_parameter(name).detach(), before[name].view(-1, 4).abs()
        kept = weight.view(-1, 4) != 0
        assert bool((kept.sum(dim=1) == 2).all())
        assert torch.equal(weight[weight != 0], before[name][weight != 0])
        assert bool((fours.where(kept, torch.inf).amin(1) >= fours.where(~kept, 0.0).amax(1)).all())
    with pytest.raises(InputError, match="no linear layer but the classifier"):
        keep_two_of_four(network, frozenset({"2", "3", "4"}))


@pytest.mark.parametrize(
    ("model", "problem"),
    [("resnet8", "no linear layer but the classifier"), ("timm:vit_tiny_patch16_224", "Only CUDA")],
)
def test_a_network_that_2_4_kernels_do_not_take_says_why(model: str, problem: str) -> None:
    variants = variants_of(network_of(model, "cpu"), ("2:4",), torch.float32)
    assert variants["dense"].network is not None
    assert variants["2:4"].network is None
    assert problem in variants["2:4"].problem


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["everything"], "everything"),
        (["optimizers", "--models", "resnet9"], "did you mean 'resnet"),
        (["optimizers", "--models", "timm:no_such"], "timm:no_such"),
        (["optimizers", "--device", "tpu"], "tpu"),
        (["optimizers", "--format", "xml"], "xml"),
        (["pruning", "--channels-last"], "--channels-last: sgabench bench pruning does not have this option"),
        (["optimizers", "--images", "5"], "--images: sgabench bench optimizers does not have this option"),
        (["inference", "--models", "resnet9"], "did you mean 'resnet"),
        (["optimizers", "--plugin", "none.py"], "none.py"),
    ],
)
def test_bad_input_is_one_line(sgabench: Run, arguments: list[str], part: str) -> None:
    done = sgabench("bench", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert part in done.stderr
