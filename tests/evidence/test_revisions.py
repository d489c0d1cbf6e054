"""Records of earlier revisions and earlier code of plugins, and of earlier revisions of sgabench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support import DENSE, PRUNED, fill, variant

import sgabench.evidence.revisions
import sgabench.suite.revisions
from sgabench.evidence.leaderboard import make_tables
from sgabench.evidence.revisions import earlier_records
from sgabench.plugins.registry import load_plugin_file, optimizers, pruners
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, keys_of, make_plan
from sgabench.suite.resolving import load_suite

Run = Callable[..., "CompletedProcess[str]"]


def revised(tiny: Path) -> Plan:
    return make_plan(load_suite(tiny), Path("data"))


def test_records_of_an_earlier_revision_of_an_optimizer_are_kept_and_reported(
    store: Store, plan: Plan, tiny: Path, sgabench: Run
) -> None:
    fill(store, plan)
    assert earlier_records(store, plan) == []
    optimizers._plugins["adam"] = replace(optimizers["adam"], revision=2)
    now = revised(tiny)
    assert len(keys_of(now) & keys_of(plan)) == 6  # of the other optimizer: trials, cells, probes
    message = "4 records of an earlier revision of adam are in the store; they are kept, and not counted here"
    assert earlier_records(store, now) == [message]
    assert make_tables(store, now).warnings == (message,)
    assert message in sgabench("plan", tiny).stdout.splitlines()
    assert len(store.statuses()) == 8


def test_of_a_pruner_the_cells_are_counted_and_of_the_training_everything(
    store: Store, plan: Plan, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, plan)
    pruners._plugins["magnitude"] = replace(pruners["magnitude"], revision=3)
    assert earlier_records(store, revised(tiny))[0].startswith("4 records of an earlier revision of magnitude are")
    for module in (sgabench.suite.revisions, sgabench.evidence.revisions):
        monkeypatch.setattr(module, "TRAINING_REVISION", 2)
    assert earlier_records(store, revised(tiny))[0].startswith("8 records of an earlier revision of the training loop")
    for module in (sgabench.suite.revisions, sgabench.evidence.revisions):
        monkeypatch.setattr(module, "TRAINING_REVISION", 1)
        monkeypatch.setattr(module, "MEASURING_REVISION", 2)
    (line,) = earlier_records(store, revised(tiny))
    assert line.startswith("4 records of an earlier revision of the measurements and magnitude are")


def test_records_that_differ_in_more_are_not_counted(store: Store, plan: Plan, tiny: Path) -> None:
    fill(store, plan)
    optimizers._plugins["adam"] = replace(optimizers["adam"], revision=2)
    other = make_plan(load_suite(tiny, ["training.epochs=2"]), Path("data"))
    assert earlier_records(store, other) == []


PLUGIN = """
from sgabench.plugins import {kind}s
import helps_lion

@{kind}s.register("lion", files=["lion.txt"])
def lion():
    return {value}
"""


@pytest.fixture
def lion(tmp_path: Path) -> Callable[..., None]:
    """Write, and load, a version of a plugin file."""

    def write(kind: str, value: int, text: str = "1") -> None:
        (tmp_path / "helps_lion.py").touch()
        (tmp_path / "lion.txt").write_text(text)
        (tmp_path / "lion.py").write_text(PLUGIN.format(kind=kind, value=value))
        load_plugin_file(tmp_path / "lion.py")

    return write


@pytest.mark.parametrize(
    ("kind", "old", "records"),
    [
        ("optimizer", 'name = "adam"\nlr = 0.01', 4),
        ("model", 'name = "resnet8"\nwidth = 4', 8),
        ("pruner", 'name = "magnitude"', 4),
    ],
)
def test_records_of_an_earlier_plugin_file_are_reported_while_something_is_missing(
    store: Store,
    tiny: Path,
    sgabench: Run,
    lion: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    old: str,
    records: int,
) -> None:
    for of in (DENSE, PRUNED):
        monkeypatch.setitem(of, ("lion", 0), 0.8)
        monkeypatch.setitem(of, ("lion", 1), 0.9)
    lion(kind, 1)
    variant(tiny, old, 'name = "lion"')
    before = revised(tiny)
    fill(store, before)
    lion(kind, 2)
    now = revised(tiny)
    message = f"{records} records of an earlier lion.py or of helps_lion.py beside it {TAIL}"
    assert earlier_records(store, now) == [message]
    shown = sgabench("plan", tiny, "--plugin", tiny.with_name("lion.py")).stdout.splitlines()
    assert message in shown
    known = "lion.py: keys cover its code, helps_lion.py beside it, the content of lion.txt; not files that are"
    assert any(line.startswith(known) for line in shown)
    fill(store, now)
    lion(kind, 2, "2")
    assert f"{records} records of another content of what {kind} lion reads {TAIL}" in earlier_records(
        store, revised(tiny)
    )


TAIL = "are in the store; they are kept, and not counted here"
