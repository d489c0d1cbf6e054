"""Checkpoints through the real command line: the cells of the trainings, trained on, refused before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support import TINY, called_here, variant
from trials import without_times

from sgabench.store.store import Record, Store, weights_path

Run = Callable[..., "CompletedProcess[str]"]
PRUNERS = """
[[pruners]]
name = "random"

[[pruners]]
name = "magnitude"
label = "tuned"
reestimate_bn = true
finetune = {epochs = 1, lr = 0.001}

[[probes]]
name = "weights"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny suite with more pruners and one optimizer, run; weights in the results folder."""
    folder = tmp_path_factory.mktemp("project")
    start, end = TINY.index('[[optimizers]]\nname = "stoch'), TINY.index("[[pruners]]")
    (folder / "tiny.toml").write_text(TINY[:start] + TINY[end:] + PRUNERS)
    done = called_here(folder, ["run", "tiny.toml", "--quiet"], {})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def trained(project: Path, tmp_path: Path) -> Path:
    """The suite of a copy of the project."""
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    return tmp_path / "tiny.toml"


def records(folder: Path, kind: str) -> dict[tuple[object, ...], Record]:
    with Store(folder) as store:
        found = list(store.records(kind, detail=True))
    return {tuple(r.labels.get(name) for name in ("seed", "pruner", "ratio", "probe")): r for r in found}


def with_checkpoints(suite: Path, folder: Path, more: str = "") -> Path:
    text = suite.read_text()
    start, end = text.index("[[optimizers]]"), text.index("[[pruners]]")
    entries = ""
    for (seed, *_), record in sorted(records(folder, "trial").items()):
        weights = weights_path(folder.relative_to(suite.parent), record.key)
        entries += f'[[checkpoints]]\nlabel = "mine"\nweights = "{weights}"\nseed = {seed}\n'
        entries += f'optimizer = {{name = "adam", lr = 0.01}}\n{more}\n'
    path = suite.with_name("again.toml")
    path.write_text(text[:start] + entries + text[end:])
    return path


def test_the_weights_of_trainings_give_the_same_cells_bit_for_bit(trained: Path, sgabench: Run, tmp_path: Path) -> None:
    brought = with_checkpoints(trained, tmp_path / "results")
    done = sgabench("run", brought, "--results", "others")
    assert done.returncode == 0, done.stderr
    assert "digits/resnet8/mine/1: dense top-1" in done.stderr
    for kind in ("trial", "cell", "probe"):
        before, after = (records(tmp_path / folder, kind) for folder in ("results", "others"))
        assert before.keys() == after.keys()
        for place, record in before.items():
            same, its = without_times(after[place]), without_times(record)
            of_training = {name for name in its if name.startswith("train_")} | {"interruptions", "train_images_per_s"}
            assert same == {name: value for name, value in its.items() if name not in of_training}
            detail = {name: value for name, value in record.detail.items() if name != "history"}
            if place[1] == "tuned":
                continue  # a row per epoch has its seconds
            assert after[place].detail == detail
            assert record.labels["optimizer"] == "adam"
            assert after[place].labels["optimizer"] == "mine"
    assert sgabench("plan", brought, "--results", "others").stdout.count("to run") == 0
    assert sgabench("report", brought, "--results", "others", "--format", "html").returncode == 0


def test_a_checkpoint_is_trained_on(trained: Path, sgabench: Run, tmp_path: Path) -> None:
    brought = with_checkpoints(trained, tmp_path / "results", "epochs = 2")
    done = sgabench("run", brought, "--results", "others", "--only", "*/0", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path / "others", "trial").values()
    first = records(tmp_path / "results", "trial")[(0, None, None, None)]
    assert len(record.detail["history"]) == 2
    assert record.result["train_loss"] < 0.8 * first.result["train_loss"], "it went on from where the training ended"


def test_what_does_not_fit_is_reported_before_anything_is_computed(
    trained: Path, sgabench: Run, tmp_path: Path
) -> None:
    brought = variant(with_checkpoints(trained, tmp_path / "results"), "width = 4", "width = 8")
    done = sgabench("run", brought, "--results", "others")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "does not fit model 'resnet8': conv1.weight is 4 x 1 x 3 x 3 in the file and 8 x 1 x 3 x 3" in done.stderr
    assert not (tmp_path / "others").exists()
