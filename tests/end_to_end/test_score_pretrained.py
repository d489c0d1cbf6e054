"""Published weights scored without a file of them, from the caches: no test reaches the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from published import fill_caches

from sgabench.store.store import Store

Run = Callable[..., "CompletedProcess[str]"]
THOUSAND = """
import torch
from sgabench.datasets.base import Dataset
from sgabench.plugins import datasets

@datasets.register("thousand")
def thousand(data_dir, download):
    labels = torch.arange(1000)
    images = torch.randint(0, 256, (1000, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Dataset("thousand", tuple(map(str, range(1000))), images, labels, images, labels)
"""
COMMON = ("--pretrained", "--plugin", "thousand.py", "--ratio", "0.5", "--set", "measurement.throughput=false")


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_caches(tmp_path, monkeypatch)
    (tmp_path / "thousand.py").write_text(THOUSAND)


def test_published_weights_need_no_file(sgabench: Run, tmp_path: Path) -> None:
    arguments = ("score", *COMMON, "--model", "timm:test_resnet", "--dataset", "thousand", "--set")
    done = sgabench(*arguments, "datasets.1.test_size=1000")
    assert done.returncode == 0, done.stderr
    assert "thousand, timm:test_resnet" in done.stdout
    with Store(tmp_path / "results") as store:
        (trial,) = store.records("trial", detail=True)
        (cell,) = store.records("cell")
    assert trial.labels["optimizer"] == "pretrained"
    assert trial.detail["pretrained"] == {"weights": "timm/test_resnet.r160_in1k", "replaced": []}
    assert trial.detail["normalization"] == {"mean": [0.5] * 3, "std": [0.5] * 3}, "theirs"
    assert cell.result["sparsity"] == pytest.approx(0.5, abs=0.01)
    again = sgabench(*arguments, "datasets.1.test_size=1000", "--quiet")
    assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "timm:test_resnet", "--dataset", "digits"), "fc, conv1.0 would be untrained; train it (epochs"),
        (
            ("--model", "timm:resnet50", "--dataset", "thousand"),
            "model 'timm:resnet50': its published weights are not av",
        ),
        (("--model", "resnet8", "--dataset", "digits"), "--pretrained: no weights of 'resnet8' are published"),
        (("net.pth", "--model", "timm:test_resnet", "--dataset", "digits"), "--pretrained: replaces weights files"),
    ],
)
def test_what_cannot_be_scored_is_a_line(
    sgabench: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = sgabench("score", *COMMON, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (tmp_path / "results").exists()


def test_files_or_published_weights_are_needed(sgabench: Run) -> None:
    done = sgabench("score", "--model", "resnet8", "--dataset", "digits")
    assert done.returncode == 2
    assert done.stderr.startswith("error: name weights files, or --pretrained for the published weights of a timm: or")
