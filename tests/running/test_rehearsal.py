"""What would only fail at the end of a trial fails before its training, on a few images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import variant
from torch import nn
from torch.nn.utils import parametrizations, prune
from trials import by_kind, run_one, tasks, without_times

from sgabench.errors import InputError
from sgabench.plugins import ImageSpec
from sgabench.plugins.registry import models, optimizers, probes, pruners
from sgabench.running import patience, rehearsal
from sgabench.running.options import Options
from sgabench.running.rehearsal import rehearse, run_rehearsed
from sgabench.running.runner import check
from sgabench.running.task import Task
from sgabench.store.store import Record
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite

RESNET = 'name = "resnet8"\nwidth = 4'


@pytest.fixture(autouse=True)
def _nothing_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_passed", set())


@pytest.fixture
def long(tiny: Path) -> Path:
    """The tiny suite with one optimizer and more steps than a rehearsal is worth."""
    variant(tiny, "batch_size = 64", "batch_size = 16")
    return variant(tiny, '\n[[optimizers]]\nname = "stochgradadam"\nlr = 0.01\nsampling_rate = 0.8\n', "")


def rehearsed(task: Task) -> list[Record]:
    events: list[Any] = []
    run_rehearsed(task, events.append, lambda: contextlib.nullcontext(False))
    return [event for event in events if isinstance(event, Record)]


def layers(spec: ImageSpec) -> list[nn.Module]:
    first, second = nn.Conv2d(spec.channels, 4, 3), nn.Conv2d(4, 4, 3)
    return [first, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, spec.classes)]


class Unsaveable(nn.Sequential):
    def get_extra_state(self) -> object:
        return "text"

    def set_extra_state(self, state: object) -> None:
        pass


class Unloadable(nn.Sequential):
    def _load_from_state_dict(self, *_: Any) -> None:
        raise RuntimeError("not again")


def parametrized(how: Callable[[nn.Module], object]) -> Callable[[ImageSpec], nn.Module]:
    def build(spec: ImageSpec) -> nn.Module:
        made = layers(spec)
        how(made[2])
        return nn.Sequential(*made)

    return build


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (parametrized(parametrizations.weight_norm), "is parametrized and cannot be pruned in place"),
        (parametrized(parametrizations.spectral_norm), "is parametrized and cannot be pruned in place"),
        (parametrized(lambda m: prune.random_unstructured(m, "weight", 0.3)), "cannot be pruned in place"),
        (lambda spec: Unsaveable(*layers(spec)), "Before the training, on a few images"),
        (lambda spec: Unloadable(*layers(spec)), "RuntimeError: not again"),
    ],
    ids=["weight norm", "spectral norm", "mask", "unsaveable", "unloadable"],
)
def test_a_training_that_cannot_come_to_an_end_is_not_begun(
    long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any, message: str
) -> None:
    models.register("odd")(model)
    task = tasks(variant(long, RESNET, 'name = "odd"'), tmp_path)[0]
    monkeypatch.setattr(rehearsal, "run_trial", _counted(calls := []))
    (record,) = rehearsed(task)
    assert (record.kind, record.key, record.status) == ("trial", task.trial.key, "failed")
    assert message in record.error
    assert "Traceback" in record.error
    assert calls == [256 // 16]  # images of the one step that was made
    assert not list((tmp_path / "weights").iterdir())


def _counted(calls: list[int]) -> Any:
    from sgabench.running.trial import run_trial

    def run(task: Task, emit: Any, alone: Any, data: Any = None) -> None:
        calls.append(len(data.train) if data else -1)
        run_trial(task, emit, alone, data)

    return run


def test_of_a_pruner_and_a_probe_that_will_fail_there_is_a_warning_before_the_training(
    long: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @pruners.register("bad")
    def bad(network: nn.Module, ratio: float) -> nn.Module:
        """Raise."""
        assert not warnings_at_the_end, "again"
        raise ValueError("no\n\tway")

    probes.register("mute", on="pruned")(lambda network: torch.zeros(2))
    warnings_at_the_end: list[str] = []
    text = long.read_text().replace('"magnitude"', '"bad"')
    long.write_text(text + '\n[[pruners]]\nname = "magnitude"\n\n[[probes]]\nname = "mute"\n')
    records = rehearsed(tasks(long, tmp_path)[0])
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(
        "warning: digits/resnet8/adam/0: pruner 'bad' fails: ValueError: no way (test_rehearsal.py, line "
    )
    assert second.startswith("warning: digits/resnet8/adam/0: probe 'mute' fails: TypeError: ")
    assert [(r.kind, r.status) for r in records] == [
        ("trial", "done"),
        ("cell", "failed"),
        ("cell", "done"),
        ("probe", "failed"),
    ]
    assert rehearsed(tasks(long, tmp_path)[1])[0].status == "done"
    assert len(caplog.records) == 2  # another seed is not told again


def test_what_a_rehearsal_finds_is_refused_by_a_dry_run(tiny: Path, tmp_path: Path) -> None:
    models.register("odd")(parametrized(parametrizations.weight_norm))
    plan = make_plan(load_suite(variant(tiny, RESNET, 'name = "odd"')), tmp_path)
    options = Options(tmp_path / "results", tmp_path, False, "cpu")
    check(plan, options)
    with pytest.raises(
        InputError, match="digits/odd/adam/0: the training fails: TypeError: the weight of Parametrized"
    ):
        check(plan, options, strict=True)


def test_a_rehearsal_changes_no_number(long: Path, tmp_path: Path) -> None:
    variant(long, 'name = "magnitude"', 'name = "magnitude"\nreestimate_bn = true\nfinetune = {epochs = 2}')
    task = tasks(long, tmp_path)[0]
    for with_it, without in zip(rehearsed(task), run_one(task), strict=True):
        assert with_it.status == "done"
        assert without_times(with_it) == without_times(without)


def test_what_diverges_or_is_short_is_left_to_the_trial(long: Path, tmp_path: Path) -> None:
    optimizers.register("exploding")(lambda parameters: torch.optim.SGD(parameters, lr=1e30))
    assert rehearse(tasks(variant(long, 'name = "adam"\nlr = 0.01', 'name = "exploding"'), tmp_path)[0]) == []
    models.register("odd")(parametrized(parametrizations.weight_norm))
    task = tasks(variant(long, RESNET, 'name = "odd"'), tmp_path)[0]
    short = tasks(variant(long, "batch_size = 16", "batch_size = 64"), tmp_path)[0]
    assert rehearse(short) == []
    assert [record.kind for record in rehearse(task)] == ["trial"]


def test_what_fails_in_a_step_is_left_to_the_training(
    long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rushed(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            raise RuntimeError("at once")

    optimizers.register("rushed")(lambda parameters: Rushed(parameters, lr=0.1))
    task = tasks(variant(long, 'name = "adam"\nlr = 0.01', 'name = "rushed"'), tmp_path)[0]
    monkeypatch.setattr(rehearsal, "run_trial", _counted(calls := []))
    (record,) = rehearsed(task)
    assert record.error.startswith("Traceback")
    assert calls == [16, -1]


def test_a_model_that_takes_whole_batches_only_is_given_one(long: Path, tmp_path: Path) -> None:
    class Picky(nn.Sequential):
        def forward(self, images: torch.Tensor) -> Any:
            assert not self.training or len(images) == 20
            return super().forward(images)

    models.register("picky")(lambda spec: Picky(*layers(spec)))
    variant(long, "batch_size = 16", "batch_size = 20")
    assert rehearse(tasks(variant(long, RESNET, 'name = "picky"'), tmp_path)[0]) == []


def test_layers_that_are_called_with_keywords_are_rehearsed_and_measured(long: Path, tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self, spec: ImageSpec) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(spec.channels, 4, 3), nn.Conv2d(4, 4, 3)
            self.last = nn.Linear(4, spec.classes)

        def forward(self, images: torch.Tensor) -> Any:
            return self.last(input=self.second(input=self.first(input=images).relu()).mean((2, 3)))

    models.register("named")(Named)
    task = tasks(variant(long, RESNET, 'name = "named"'), tmp_path)[0]
    assert rehearse(task) == []
    (cell,) = by_kind(run_one(task), "cell")
    assert (cell.status, cell.result["prunable_weights"]) == ("done", 4 * 4 * 9)


def test_a_rehearsal_that_takes_long_gives_a_sign_of_life(
    long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.001)

    @pruners.register("slow")
    def slow(network: nn.Module) -> nn.Module:
        """Continue until it was reported."""
        while "slow/0.5 takes long" not in caplog.text:
            pass
        return network

    assert rehearse(tasks(variant(long, '"magnitude"', '"slow"'), tmp_path)[0]) == []
    message = "digits/resnet8/adam/0: cell slow/0.5 takes long on a few images; its training has not started yet"
    assert message in [record.getMessage() for record in caplog.records]
