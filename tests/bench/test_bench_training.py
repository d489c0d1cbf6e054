"""That training is measured as it says. How fast it is, is not tested."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from sgabench.bench import training
from sgabench.errors import InputError
from sgabench.plugins.registry import load_plugin_file
from sgabench.report.benchmark import render


@pytest.mark.usefixtures("forked_loops")
def test_every_loop_takes_turns_with_the_one_that_everyone_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_ROUNDS", {"cpu": 2})
    monkeypatch.setattr(training, "_BLOCK_S", {"cpu": 0.0})
    monkeypatch.setattr(training, "RECIPE", training.RECIPE.model_copy(update={"batch_size": 16}))
    monkeypatch.setattr(training, "at_once", lambda device: ())  # tests/test_sharing.py has several
    benchmark = training.measure(["resnet8"], "cpu")
    rows = {row["mode"]: row for row in benchmark.rows}
    assert list(rows) == ["DataLoader loop", *(f"one trial, {each}" for each in training.precisions("cpu"))]
    for row in rows.values():
        assert 0 < row["images_per_s"][0] <= row["images_per_s"][1] <= row["images_per_s"][2]
        assert 0 < row["utilization"] < 1.5
    assert rows["DataLoader loop"]["ratio"] == [1, 1, 1]
    assert all(row["memory_bytes"] > 0 for row in rows.values())
    text = render(benchmark, "markdown")
    assert text.count("resnet8") == len(rows)
    assert text.splitlines()[1] == "| --- | --- | ---: | ---: | ---: | ---: |"
    assert "1.00 \\[1.00 to 1.00\\]" in text
    assert "two workers" in text
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("forked_loops")
def test_what_a_process_cannot_train_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_PRODUCT_SIZE", {"cpu": 64})
    plugin = tmp_path / "refusing.py"
    plugin.write_text(
        "import multiprocessing\nfrom torch import nn\nfrom sgabench.plugins import models\n"
        "@models.register('refusing')\n"
        "def refusing(spec):\n"
        "    if multiprocessing.parent_process() is not None:\n"
        "        raise MemoryError('not here')\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3072, spec.classes))\n"
    )
    load_plugin_file(plugin)
    with pytest.raises(InputError, match=r"models: refusing: DataLoader loop: .*not here"):
        training.measure(["refusing"], "cpu", [plugin])
    assert not multiprocessing.active_children()
