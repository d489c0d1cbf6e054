"""That trials share a device as far as it holds them. How much faster that is, is not tested."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import variant

from sgabench.plugins import ImageSpec
from sgabench.plugins.registry import load_plugin_file, models
from sgabench.running import sharing
from sgabench.running.loops import Workload
from sgabench.running.options import Options
from sgabench.running.sharing import best_number, workloads
from sgabench.store.store import Store
from sgabench.suite.choices import Choice
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite
from sgabench.suite.tables import Recipe

# Only one process at a time gets what the model needs, as on a device that is full.
CROWDED = """
import fcntl, os, pathlib, torch
from sgabench.suite.plan import make_plan
from sgabench.plugins import models

@models.register("crowded")
def crowded(spec, *, lock: str):
    file = open(lock, "w")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, spec.classes))
    network.file = file
    return network
"""


@pytest.mark.usefixtures("forked_loops")
def test_what_does_not_fit_twice_is_trained_once_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fcntl")
    monkeypatch.setattr(sharing, "_SECONDS", 0.1)
    plugin = tmp_path / "crowded.py"
    plugin.write_text(CROWDED)
    load_plugin_file(plugin)
    caplog.set_level(logging.INFO, logger="sgabench")
    model = Choice("crowded", "crowded", models["crowded"].resolve({"lock": str(tmp_path / "lock")}))
    work = Workload(model, ImageSpec(1, 8, 8, 10), Recipe(batch_size=16), (plugin,))
    assert best_number(work, "cpu", limit=4) == 1
    messages = [record.getMessage() for record in caplog.records if "at once" in record.getMessage()]
    assert len(messages) == 2
    assert messages[1] == "2 trainings of crowded at once: 0 images/s"


def test_models_are_tried_once_however_many_trials_they_are_in(tiny: Path, tmp_path: Path) -> None:
    plan = make_plan(load_suite(variant(tiny, "width = 4", "sweep = {width = [4, 8]}")), tmp_path)
    found = workloads(plan.trials, Options(data_dir=tmp_path))
    assert len(plan.trials) == 8
    assert [work.model.options["width"] for work in found] == [4, 8]
    assert {work.spec for work in found} == {ImageSpec(1, 8, 8, 10)}


@pytest.mark.usefixtures("forked_loops")
def test_a_run_that_chooses_its_jobs_gives_each_trial_a_core(sgabench: Callable[..., Any], tiny: Path) -> None:
    done = sgabench("run", tiny, "--device", "cpu", "--jobs", "auto", "--only", "*/adam/*")
    assert done.returncode == 0, done.stderr
    with Store(tiny.parent / "results") as store:
        assert {record.environment["threads"] for record in store.records("trial")} == {1}


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5"])
def test_other_jobs_are_refused(sgabench: Callable[..., Any], tiny: Path, jobs: str) -> None:
    done = sgabench("run", tiny, "--jobs", jobs)
    assert done.returncode == 2
    assert "neither a positive integer nor 'auto'" in done.stderr
