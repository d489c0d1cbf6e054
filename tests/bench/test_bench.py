"""The command `bench`, as a user has it. How fast anything is, is not tested."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from sgabench.optimizers import compiled
from sgabench.registry import models
from sgabench.specs import ImageSpec

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TINY = ("bench", "optimizers", "--models", "resnet8", "--device", "cpu")


def test_every_optimizer_is_measured_against_fused_adam(sgabench: Run) -> None:
    done = sgabench(*TINY, "--models", "resnet14", "--format", "json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["environment"]["device"] == "cpu"
    assert shown["environment"]["packages"]["torch"]
    rows = {(row["model"], row["optimizer"]): row for row in shown["rows"]}
    names = {"Adam, fused", "Adam, foreach", "SGD, fused", "StochGradAdam, foreach", "StochGradAdam, single"}
    names |= {"StochGradAdam, compiled"} if compiled.problem() is None else set()
    assert rows.keys() == {(model, name) for model in ("resnet8", "resnet14") for name in names}
    images = ImageSpec(channels=3, height=32, width=32, classes=10)
    sizes = {name: sum(p.numel() for p in models[name].build(images).parameters()) for name in ("resnet8", "resnet14")}
    for (model, name), row in rows.items():
        assert row["parameters"] == sizes[model]
        moments = 1 if name.startswith("SGD") else 2
        assert moments * 4 * row["parameters"] <= row["state_bytes"] <= moments * 4 * row["parameters"] + 1000
        assert 0 < row["step_s"][0] <= row["step_s"][1] <= row["step_s"][2]
        assert row["transient_bytes"] >= 0
    assert rows["resnet8", "Adam, fused"]["ratio"] == [1, 1, 1]
    assert rows["resnet8", "StochGradAdam, single"]["ratio"][1] > 0


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_a_table_says_what_it_means_and_where_it_was_made(sgabench: Run, form: str) -> None:
    done = sgabench(*TINY, "--channels-last", "--format", form, CXX="no-such-compiler", XDG_CACHE_HOME="/dev/null")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = [line for line in lines if "resnet8" in line]
    assert len(rows) == 5
    assert all("0.08 M" in row and " ms" in row and " MB" in row for row in rows)
    assert sum("1.00 \\[1.00 to 1.00\\]" in row or "1.00 [1.00 to 1.00]" in row for row in rows) == 1
    assert "torch " in lines[-1] or "torch " in lines[-2]
    assert any("Left out: StochGradAdam, compiled" in line for line in lines)
    if form == "markdown":
        assert lines[1] == "| --- | --- | ---: | ---: | ---: | ---: |"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["everything"], "everything"),
        (["optimizers", "--models", "resnet9"], "did you mean 'resnet"),
        (["optimizers", "--models", "timm:no_such"], "timm:no_such"),
        (["optimizers", "--device", "tpu"], "tpu"),
        (["optimizers", "--format", "xml"], "xml"),
        (["optimizers", "--plugin", "none.py"], "none.py"),
    ],
)
def test_bad_input_is_one_line(sgabench: Run, arguments: list[str], part: str) -> None:
    done = sgabench("bench", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert part in done.stderr
