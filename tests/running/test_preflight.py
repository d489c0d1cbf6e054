"""Bad input is found before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import variant
from torch import nn
from trials import run_one, tasks

from sgabench.errors import InputError
from sgabench.plugins import ImageSpec
from sgabench.plugins.registry import models
from sgabench.running.preflight import preflight

pytestmark = pytest.mark.usefixtures("_plugins")


def test_what_a_plugin_raises_is_left_to_its_trial(tiny: Path, tmp_path: Path) -> None:
    @models.register("unready")
    def unready(spec: ImageSpec) -> nn.Module:
        """Raise."""
        raise KeyError("weights")

    todo = tasks(variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "unready"'), tmp_path)
    preflight(todo)
    with pytest.raises(InputError, match="model 'unready': KeyError: 'weights'"):
        preflight(todo, strict=True)
    (record,) = run_one(todo[0])
    assert record.status == "failed"
    assert record.error.strip().endswith("KeyError: 'weights'")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size = 64", "batch_size = 300", r"dataset 'digits': training.batch_size 300 is larger.*\(256 images\)"),
        ("train_size = 256", "train_size = 100000", "train_size is 100000"),
        ('name = "adam"\nlr = 0.01', 'name = "torch:AdamX"', r"'torch:AdamX'.*did you mean.*Adam"),
        ('name = "adam"\nlr = 0.01', 'name = "torch:Adam"\nlearning = 1', "learning"),
        ('name = "resnet8"\nwidth = 4', 'name = "torchvision:resnet"', "did you mean"),
        ('name = "digits"\ntrain_size = 256', 'name = "cifar10"', "cifar-10-batches-bin"),
    ],
    ids=["batch", "train_size", "class", "option", "model", "data"],
)
def test_bad_input_is_found_before_the_first_step(tiny: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        preflight(tasks(variant(tiny, old, new), tmp_path))


def test_a_model_with_the_wrong_output_is_found_before_the_first_step(tiny: Path, tmp_path: Path) -> None:
    @models.register("wrong")
    def wrong(spec: ImageSpec) -> nn.Module:
        """Return three logits."""
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

    variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "wrong"')
    with pytest.raises(InputError, match=r"returns \(2, 3\) for 2 images, not logits of shape \(2, 10\)"):
        preflight(tasks(tiny, tmp_path))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('{"layr1*" = 0.3}', r"pruner 'magnitude': allocation: 'layr1\*' matches no prunable layer; valid: layer1"),
        ('{"*" = 0.9}', "pruner 'magnitude': allocation: the table covers every layer and prunes 0.9 .*, not 0.5"),
    ],
)
def test_ratios_by_names_must_fit_the_model(table: str, message: str, tiny: Path, tmp_path: Path) -> None:
    todo = tasks(variant(tiny, 'name = "magnitude"', f'name = "magnitude"\nallocation = {table}'), tmp_path)
    with pytest.raises(InputError, match=message):
        preflight(todo)


def test_ratios_by_names_that_fit_are_run(tiny: Path, tmp_path: Path) -> None:
    variant(tiny, 'name = "magnitude"', 'name = "magnitude"\nallocation = {"layer1*" = 0.25, "conv1" = 0.1}')
    variant(tiny, "ratios = [0.5]", "ratios = [0.5]\n")
    todo = tasks(variant(tiny, 'allocation = {"layer1*"', 'include_input = true\nallocation = {"layer1*"'), tmp_path)
    preflight(todo)
    (cell,) = [record for record in run_one(todo[0]) if record.kind == "cell"]
    assert cell.detail["layer_sparsity"]["layer1.0.conv1"] == 0.25
    assert cell.result["sparsity"] == pytest.approx(0.5, abs=1e-3)
