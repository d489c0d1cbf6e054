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
