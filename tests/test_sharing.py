"""That trials share a device as far as it holds them. How much faster that is, is not tested."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sgabench.bench.loops import Workload
from sgabench.registry import load_plugin_file, models
from sgabench.sharing import best_number
from sgabench.specs import ImageSpec
from sgabench.suite import Choice, Recipe

# Only one process at a time gets what the model needs, as on a device that is full.
CROWDED = """
import fcntl, os, pathlib, torch
from sgabench.registry import models

@models.register("crowded")
def crowded(spec, *, lock: str):
    file = open(lock, "w")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, spec.classes))
    network.file = file
    return network
"""


def test_what_does_not_fit_twice_is_trained_once_at_a_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("fcntl")
    plugin = tmp_path / "crowded.py"
    plugin.write_text(CROWDED)
    load_plugin_file(plugin)
    caplog.set_level(logging.INFO, logger="sgabench")
    model = Choice("crowded", "crowded", models["crowded"].resolve({"lock": str(tmp_path / "lock")}))
    work = Workload(model, ImageSpec(1, 8, 8, 10), Recipe(batch_size=16), (plugin,))
    assert best_number(work, "cpu", "fp32", limit=4) == 1
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[1] == "2 trainings of crowded at once: 0 images/s"
