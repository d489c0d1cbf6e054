"""Trials with optimizers that ask more of the loop than a step along the gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import variant
from trials import by_kind, run_one, tasks

FINETUNED = "finetune = {epochs = 1, lr = 0.01}\nreestimate_bn = true\n"
STEPS = 256 // 64


@pytest.mark.parametrize(
    ("optimizer", "passes"),
    [
        ('"sam:SGD"\nlr = 0.05\nmomentum = 0.9', 2 * STEPS),
        ('"cram:Adam"\nlr = 0.01\nsparsities = [0.5, 0.9]', 2 * STEPS),
        ('"schedulefree:AdamW"\nlr = 0.01', STEPS),
        ('"torch:LBFGS"\nlr = 0.1\nmax_iter = 2', 3 * STEPS),
        ('"prox:LBFGS"\nlr = 0.1\nmax_iter = 1', 2 * STEPS),
    ],
    ids=["sam", "cram", "schedule-free", "lbfgs", "prox lbfgs"],
)
def test_passes_are_counted_and_pruned_networks_tuned(tiny: Path, tmp_path: Path, optimizer: str, passes: int) -> None:
    variant(tiny, '"adam"\nlr = 0.01', optimizer)
    tiny.write_text(tiny.read_text() + FINETUNED)
    records = run_one(tasks(tiny, tmp_path)[0])
    assert [record.error for record in records if record.status != "done"] == []
    (trial,), (cell,) = by_kind(records, "trial"), by_kind(records, "cell")
    assert trial.result["train_passes"] == passes
    assert cell.result["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert len(cell.detail["finetuning"]) == 1
    assert ("schedulefree" in trial.environment["packages"]) == ("schedulefree" in optimizer)
