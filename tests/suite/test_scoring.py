"""The suite that a command without a suite asks for: labels, replicates, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sgabench.errors import InputError
from sgabench.suite.resolving import Suite
from sgabench.suite.scoring import scoring_suite


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "b.pt", "lr=0.1.pt", "one/best.pt", "two/best.pt", "other/one/best.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())


def suite_of(*weights: str, **more: Any) -> Suite:
    return scoring_suite(weights, "resnet8", "digits", **more)


@pytest.mark.parametrize(
    ("weights", "labels"),
    [
        (["a.pt", "b.pt"], ["a", "b"]),
        (["mine=a.pt", "b.pt"], ["mine", "b"]),
        (["mine=a.pt", "mine=b.pt"], ["mine", "mine"]),
        (["lr=0.1.pt"], ["lr=0.1"]),
        (["one/best.pt", "two/best.pt"], ["one best", "two best"]),
    ],
)
def test_files_are_called_by_their_names_or_as_one_says(weights: list[str], labels: list[str], tmp_path: Path) -> None:
    suite = suite_of(*weights)
    assert [checkpoint.label for checkpoint in suite.checkpoints] == labels
    assert all(checkpoint.with_content().sha256 for checkpoint in suite.checkpoints)


def test_files_of_a_label_are_replicates() -> None:
    assert [checkpoint.seed for checkpoint in suite_of("x=a.pt", "y=b.pt", "x=one/best.pt").checkpoints] == [0, 0, 1]


def test_each_question_has_a_folder_of_its_own() -> None:
    folders = {suite_of("a.pt").folder, suite_of("b.pt").folder, suite_of("a.pt", ratios=[0.1]).folder}
    assert len(folders) == 3
    assert suite_of("a.pt").folder in folders


def test_a_folder_of_images_is_named_by_its_path(tmp_path: Path) -> None:
    suite = scoring_suite(["a.pt"], "resnet8", "folder:my photos", overrides=["datasets.1.image_size=8"])
    (dataset,) = suite.datasets
    assert dataset.label == "my photos"
    assert dataset.options["path"] == str(tmp_path / "my photos")
    assert dataset.options["image_size"] == 8


def test_a_folder_without_its_prefix_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="data set 'photos': is a folder; write 'folder:photos'"):
        scoring_suite(["a.pt"], "resnet8", "photos")


def test_normalization_is_given_by_numbers_or_a_word() -> None:
    assert "normalize" not in suite_of("a.pt").datasets[0].settings
    assert suite_of("a.pt", normalize="pretrained").datasets[0].settings["normalize"] == "pretrained"
    given = suite_of("a.pt", normalize="0.5,0.25/0.5,1").datasets[0].settings["normalize"]
    assert given == {"mean": [0.5, 0.25], "std": [0.5, 1.0]}


@pytest.mark.parametrize(
    ("weights", "more", "message"),
    [
        (["one/best.pt", "other/one/best.pt"], {}, "several files would be called 'one best'; write LABEL=FILE"),
        (["a.pt"], {"normalize": "half"}, "--normalize half: must be data, pretrained or MEAN/STD"),
        (["a.pt"], {"normalize": "0.5,0.5/1"}, "normalize: mean has 2 numbers and std 1"),
        (["a.pt"], {"normalize": "0.5/0"}, r"normalize: std( 1|\.0): input should be greater than 0"),
        (["a.pt"], {"ratios": [1.5]}, r"ratios 1: input should be less than 1"),
        (["a.pt"], {"pruners": ["magnitud"]}, "unknown pruner 'magnitud'; did you mean 'magnitude'"),
        (["a.pt"], {"overrides": ["models.2.width=4"]}, "there is no 'models.2'"),
        (["a.txt"], {}, r"checkpoints 1 \(a\): weights: .* is none of .safetensors, .pt, .pth"),
    ],
)
def test_what_is_wrong_is_refused(weights: list[str], more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        suite_of(*weights, **more)
