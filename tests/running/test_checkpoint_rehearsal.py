"""A pruner that fails on a checkpoint is found on a few images, before a sweep over all of them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from support import TINY, variant
from torch import nn
from trials import by_kind, run_one, tasks, without_times

from sgabench.plugins.registry import pruners
from sgabench.running import rehearsal
from sgabench.running.rehearsal import rehearse, run_rehearsed
from sgabench.store.store import Record, weights_path

BROUGHT = '[[checkpoints]]\nlabel = "mine"\nweights = "mine.safetensors"\n\n'


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny suite of one checkpoint, which was trained by it, pruned twice by each of two pruners."""
    monkeypatch.setattr(rehearsal, "_passed", set())
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    (trained, *_) = by_kind(run_one(tasks(path, tmp_path)[0]), "trial")
    (tmp_path / "mine.safetensors").write_bytes(weights_path(tmp_path, trained.key).read_bytes())
    start, end = TINY.index("[[optimizers]]"), TINY.index("[[pruners]]")
    pruned = TINY[end:] + '\n[[pruners]]\nname = "random"\n'
    path.write_text(TINY[:start] + BROUGHT + pruned)
    return variant(path, "ratios = [0.5]", "ratios = [0.5, 0.8]")


def test_a_pruner_that_fails_is_reported_before_the_sweep(
    suite: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @pruners.register("failing")
    def failing(network: nn.Module, ratio: float) -> nn.Module:
        raise RuntimeError("not this network")

    variant(suite, 'name = "random"', 'name = "failing"')
    (task,) = tasks(suite, tmp_path)
    told_before: list[int] = []
    events: list[Any] = []

    def emit(event: object) -> None:
        told_before.append(len(caplog.records))
        events.append(event)

    run_rehearsed(task, emit, lambda: contextlib.nullcontext(False))
    (warned,) = caplog.records
    told = "digits/resnet8/mine/0: pruner 'failing' fails: RuntimeError: not this network"
    assert warned.getMessage().startswith(f"warning: {told}")
    assert warned.getMessage().endswith("(on a few images; it is tried again on all of them)")
    assert set(told_before) == {1}, "before anything else"
    cells = by_kind([event for event in events if isinstance(event, Record)], "cell")
    assert [cell.status for cell in cells] == ["done", "done", "failed", "failed"]


def test_a_rehearsal_changes_no_number_of_a_checkpoint(suite: Path, tmp_path: Path) -> None:
    (task,) = tasks(suite, tmp_path)
    events: list[Any] = []
    run_rehearsed(task, events.append, lambda: contextlib.nullcontext(False))
    records = [event for event in events if isinstance(event, Record)]
    assert rehearsal._passed, "it was rehearsed"
    for with_it, without in zip(records, run_one(task), strict=True):
        assert with_it.status == "done"
        assert without_times(with_it) == without_times(without)


def test_a_single_cell_is_not_rehearsed_but_by_a_dry_run(suite: Path, tmp_path: Path) -> None:
    variant(variant(suite, "ratios = [0.5, 0.8]", "ratios = [0.5]"), '\n[[pruners]]\nname = "random"\n', "")
    (task,) = tasks(suite, tmp_path)
    assert rehearse(task) == []
    assert not rehearsal._passed
    assert rehearse(task, short=True) == []
    assert rehearsal._passed
