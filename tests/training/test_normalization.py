"""What images are normalized with: the data's own statistics, those of published weights, or given ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import variant

from sgabench.errors import InputError
from sgabench.models.pretrained import published_normalization
from sgabench.suite.plan import TrialPlan, make_plan
from sgabench.suite.resolving import load_suite
from sgabench.training.building import load_data, seen_by
from sgabench.training.data import Data


def trial_of(suite: Path, normalize: str, model: str = "resnet8") -> TrialPlan:
    variant(suite, "train_size = 256", f"train_size = 256\n{normalize}")
    variant(suite, 'name = "resnet8"\nwidth = 4', f'name = "{model}"')
    return make_plan(load_suite(suite), Path("data")).trials[0]


def data_for(trial: TrialPlan) -> Data:
    return seen_by(trial.model, trial.dataset, load_data(trial.dataset, Path("data"), False, "cpu"))


def constants(trial: TrialPlan) -> tuple[Any, Any]:
    data = data_for(trial)
    return data.mean.tolist(), data.std.tolist()


def test_given_numbers_are_used_and_are_in_the_key(tiny: Path) -> None:
    before = make_plan(load_suite(tiny), Path("data")).trials[0]
    trial = trial_of(tiny, "normalize = {mean = [0.5], std = [0.25]}")
    assert constants(trial) == ([0.5], [0.25])
    assert trial.key != before.key


def test_the_default_that_is_written_out_is_in_no_key(tiny: Path) -> None:
    before = make_plan(load_suite(tiny), Path("data")).trials[0]
    data = data_for(before)
    variant(tiny, "train_size = 256", 'train_size = 256\nnormalize = "data"')
    after = make_plan(load_suite(tiny), Path("data")).trials[0]
    assert after.key == before.key
    assert constants(after) == (data.mean.tolist(), data.std.tolist())


def test_published_constants_of_a_grey_image_are_the_mean_of_the_colours(tiny: Path) -> None:
    mean, std = constants(trial_of(tiny, 'normalize = "pretrained"', "torchvision:resnet18"))
    assert mean == [pytest.approx((0.485 + 0.456 + 0.406) / 3)]
    assert std == [pytest.approx((0.229 + 0.224 + 0.225) / 3)]


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_a_misspelt_model_is_named_before_its_constants(source: str) -> None:
    with pytest.raises(InputError, match=f"unknown model '{source}:resnet18x'; did you mean .*'resnet18'"):
        published_normalization(f"{source}:resnet18x")


@pytest.mark.parametrize(
    ("normalize", "message"),
    [
        ('"pretrained"', "no weights of 'resnet8' are published"),
        ("{mean = [0.5, 0.5], std = [1.0, 1.0]}", "has 2 channels, the images have 1"),
    ],
)
def test_what_does_not_fit_is_refused(tiny: Path, normalize: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        constants(trial_of(tiny, f"normalize = {normalize}"))
