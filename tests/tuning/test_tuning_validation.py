from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sgabench.datasets.base import Dataset
from sgabench.datasets.embedded import load_digits
from sgabench.errors import InputError
from sgabench.plugins import datasets
from sgabench.report.run import run
from sgabench.running.options import Options
from sgabench.store.store import Store
from sgabench.suite.resolving import Suite, load_suite
from sgabench.tuning.objective import Objective
from sgabench.tuning.search import Tuned
from sgabench.tuning.validation import Validation, prepare_validation

Load = Callable[..., Suite]
Tune = Callable[..., list[Tuned]]


@pytest.fixture(autouse=True)
def _poisoned() -> None:
    @datasets.register("poisoned")
    def poisoned(data_dir: Path, download: bool, *, poison: bool) -> Dataset:
        """Digits whose test split has other images under wrong labels."""
        digits = load_digits()
        if not poison:
            return digits
        noise = torch.randint(0, 256, digits.test_images.shape, dtype=torch.uint8)
        return replace(digits, test_images=noise, test_labels=(digits.test_labels + 1) % 10)


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., Validation]:
    def call(suite: Suite, size: int | None = None) -> Validation:
        return prepare_validation(suite, (1000,), size, Options(tmp_path / "results", tmp_path, device="cpu"))

    return call


@pytest.mark.parametrize(("ratio", "tries"), [(None, 12), (0.5, 6)])
def test_the_test_split_plays_no_part(suite: Load, tune: Tune, ratio: float | None, tries: int) -> None:
    """The same tries and the same numbers, whatever the test split holds."""
    overrides = () if ratio is None else ("models=[{name='resnet8', width=4}]", "training.epochs=3")
    objective = Objective(ratio)
    (clean,) = tune(
        suite("", "datasets.1.name=poisoned", "datasets.1.poison=false", *overrides), tries, objective=objective
    )
    (poisoned,) = tune(
        suite("", "datasets.1.name=poisoned", "datasets.1.poison=true", *overrides), tries, objective=objective
    )
    assert not any(attempt.stored for attempt in poisoned.tries)
    assert poisoned.tries == clean.tries
    assert len({attempt.top1 for attempt in clean.tries}) > 2


def test_the_test_split_is_not_even_there(suite: Load, prepare: Callable[..., Validation]) -> None:
    validation = prepare(suite())
    (data,) = validation.data.values()
    assert (len(data.test), len(data.validation), len(data.train)) == (0, 144, 64)
    assert data.test.images.numel() == 0


def test_what_is_held_out_is_not_trained_on(suite: Load, prepare: Callable[..., Validation]) -> None:
    (data,) = prepare(suite("", "datasets=[{name='digits'}]"), 300).data.values()
    seen = {image.numpy().tobytes() for image in data.train.images}
    kept = [image.numpy().tobytes() in seen for image in data.validation.images]
    assert (len(data.train), len(data.validation), sum(kept)) == (1137, 300, 0)


def test_a_try_is_the_training_of_a_run(tiny: Path, tmp_path: Path) -> None:
    """With the validation split and the seed of the tuning, a run measures the same."""
    text = tiny.read_text().replace("seeds = [0, 1]", "seeds = [7]").replace("epochs = 1", "epochs = 2")
    tiny.write_text(text.replace("train_size = 256", "train_size = 256\nvalidation_size = 100"))
    suite = load_suite(tiny)
    options = Options(tmp_path / "results", tmp_path, device="cpu")
    run(suite, results=options.results, data_dir=tmp_path, device="cpu")
    validation = prepare_validation(suite, (7,), None, options)
    with Store(options.results) as store:
        records = {str(record.labels["optimizer"]): record for record in store.records("trial", detail=True)}
    for optimizer in suite.optimizers:
        (top1,) = validation.top1(optimizer, lambda trial, progress: None).values()
        assert top1 == records[optimizer.label].detail["history"][-1]["validation_top1"] != 0


def test_one_number_for_every_data_set_model_and_seed(suite: Load, tmp_path: Path) -> None:
    overrides = (
        "datasets=[{name='digits'}, {name='digits', label='few', train_size=64, validation_size=50}]",
        "models=[{name='linear'}, {name='resnet8', width=4}]",
    )
    options = Options(tmp_path / "results", tmp_path, device="cpu")
    loaded = suite("", *overrides)
    validation = prepare_validation(loaded, (8, 9), None, options)
    top1 = validation.top1(loaded.optimizers[0], lambda trial, progress: None)
    assert list(top1) == [f"{d}/{m}/{s}" for d in ("digits", "few") for m in ("linear", "resnet8") for s in (8, 9)]
    assert len(set(top1.values())) > 4
    assert validation.held_out() == "144 images of digits, 1293 left to train on; 50 images of few, 64 left to train on"


@pytest.mark.parametrize(
    ("size", "overrides", "held_out"), [(None, (), 144), (None, ("datasets.1.validation_size=30",), 30), (70, (), 70)]
)
def test_how_many_images_are_held_out(
    suite: Load, prepare: Callable[..., Validation], size: int | None, overrides: tuple[str, ...], held_out: int
) -> None:
    (data,) = prepare(suite("", *overrides), size).data.values()
    assert len(data.validation) == held_out


@pytest.mark.parametrize(
    ("size", "overrides", "message"),
    [
        (9, (), r"--validation-size: 9 of the 1437 training images .*'digits' are too few for its 10 classes; .* 10$"),
        (1437, (), r"data set 'digits': .*validation_size is 1437; .* the 1437 training images"),
        (1400, (), r"train_size is 64; valid: 1 to 37"),
        (None, ("datasets.1.name=folder", "datasets.1.path=nowhere"), "nowhere"),
        (None, ("training.batch_size=65",), r"batch_size 65 is larger than the training split"),
    ],
)
def test_what_cannot_be_held_out_is_refused(
    suite: Load, prepare: Callable[..., Validation], size: int | None, overrides: tuple[str, ...], message: str
) -> None:
    loaded = suite("", *overrides)
    with pytest.raises(InputError, match=message):
        prepare(loaded, size).check(loaded.optimizers)


def test_a_plugin_that_fails_is_named(suite: Load, prepare: Callable[..., Validation]) -> None:
    @datasets.register("broken")
    def broken(data_dir: Path, download: bool) -> Any:
        """Fail."""
        raise RuntimeError("no disk")

    with pytest.raises(InputError, match=r"^dataset 'broken': RuntimeError: no disk$"):
        prepare(suite("", "datasets=[{name='broken'}]"))
