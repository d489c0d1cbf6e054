"""Records of earlier revisions of plugins and of sgabench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support import fill

import sgabench.evidence.revisions
import sgabench.suite.plan
from sgabench.evidence.leaderboard import make_tables
from sgabench.evidence.revisions import earlier_revisions
from sgabench.plugins.registry import optimizers, pruners
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, keys_of, make_plan
from sgabench.suite.resolving import load_suite

Run = Callable[..., "CompletedProcess[str]"]


def revised(tiny: Path) -> Plan:
    return make_plan(load_suite(tiny), Path("data"))


def test_records_of_an_earlier_revision_of_an_optimizer_are_kept_and_told(
    store: Store, plan: Plan, tiny: Path, sgabench: Run
) -> None:
    fill(store, plan)
    assert earlier_revisions(store, plan) == []
    optimizers._plugins["adam"] = replace(optimizers["adam"], revision=2)
    now = revised(tiny)
    assert len(keys_of(now) & keys_of(plan)) == 6  # of the other optimizer: trials, cells, probes
    told = "4 records of an earlier revision of adam are in the store; they are kept, and not counted here"
    assert earlier_revisions(store, now) == [told]
    assert make_tables(store, now).warnings == (told,)
    assert told in sgabench("plan", tiny).stdout.splitlines()
    assert len(store.statuses()) == 8


def test_of_a_pruner_the_cells_are_counted_and_of_the_training_everything(
    store: Store, plan: Plan, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, plan)
    pruners._plugins["magnitude"] = replace(pruners["magnitude"], revision=3)
    assert earlier_revisions(store, revised(tiny))[0].startswith("4 records of an earlier revision of magnitude are")
    for module in (sgabench.suite.plan, sgabench.evidence.revisions):
        monkeypatch.setattr(module, "TRAINING_REVISION", 2)
    assert earlier_revisions(store, revised(tiny))[0].startswith(
        "8 records of an earlier revision of the training loop"
    )
    for module in (sgabench.suite.plan, sgabench.evidence.revisions):
        monkeypatch.setattr(module, "TRAINING_REVISION", 1)
        monkeypatch.setattr(module, "MEASURING_REVISION", 2)
    (line,) = earlier_revisions(store, revised(tiny))
    assert line.startswith("4 records of an earlier revision of the measurements and magnitude are")


def test_records_that_differ_in_more_are_not_counted(store: Store, plan: Plan, tiny: Path) -> None:
    fill(store, plan)
    optimizers._plugins["adam"] = replace(optimizers["adam"], revision=2)
    other = make_plan(load_suite(tiny, ["training.epochs=2"]), Path("data"))
    assert earlier_revisions(store, other) == []
