"""The suites of the native networks, with small forms of these on few images, through the real command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sgabench.plugins.registry import models
from sgabench.store.store import Store
from sgabench.suite.resolving import load_suite

Run = Callable[..., "CompletedProcess[str]"]
CONVOLUTIONAL, OTHERS = "networks/convolutional", "networks/dense_and_recurrent"
SMALL = {
    "vgg16": ("width=4", CONVOLUTIONAL),
    "resnet18": ("width=4", CONVOLUTIONAL),
    "wrn-16-4": ("factor=1", CONVOLUTIONAL),
    "densenet40": ("growth=2", CONVOLUTIONAL),
    "mobilenetv2": ("width=0.1", CONVOLUTIONAL),
    "vit": ("width=16", CONVOLUTIONAL),
    "mlp": ("width=16", OTHERS),
    "lstm": ("hidden=8", OTHERS),
    "gru": ("hidden=8", OTHERS),
}


@pytest.mark.parametrize("model", SMALL)
def test_a_network_of_the_suite_is_trained_and_pruned(model: str, sgabench: Run, tmp_path: Path) -> None:
    option, suite = SMALL[model]
    small = [
        f"models.{model}.{option}",
        'datasets=[{name="digits", train_size=64, test_size=50}]',
        *("seeds=[0]", "ratios=[0.5]", "training.epochs=1", "training.batch_size=32", "training.precision=fp32"),
        *("training.schedule=constant", "training.warmup_epochs=0.0", "measurement.throughput=false", "probes=[]"),
        'optimizers=[{name="adam"}]',
    ]
    if suite == CONVOLUTIONAL:
        small += ["pruners.structured.ratios=[0.5]", "pruners.structured.of=channels"]  # no search for the number
    settings = [part for setting in small for part in ("--set", setting)]
    done = sgabench("run", suite, "--quiet", "--only", f"*/{model}/*", *settings)
    assert done.returncode == 0, done.stderr
    with Store(tmp_path / "results") as store:
        (trial,) = store.records("trial", detail=True)
        cells = {record.labels["pruner"]: record for record in store.records("cell")}
    assert ("left_out" in trial.detail) == (model == "vit")
    assert cells["magnitude"].result["sparsity"] == pytest.approx(0.5, abs=0.01)
    if suite == CONVOLUTIONAL:
        assert 1.2 < cells["structured"].result["compression_ratio"] < 5


def test_the_suites_name_every_native_network_but_the_cifar_resnets() -> None:
    named = {choice.name for suite in (CONVOLUTIONAL, OTHERS) for choice in load_suite(suite).models}
    native = {plugin.name for plugin in models.plugins()}
    assert native - named == {f"resnet{depth}" for depth in (8, 14, 20, 32, 44, 56, 110, 152)}
