"""What cells ask for beside one-shot pruning, from a suite to records."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import variant
from trials import by_kind, run_one, tasks

PRUNERS = """
name = "magnitude"
label = "rewound"
ratios = [0.0, 0.5]
schedule = { kind = "rewind", to = 1 }

[[pruners]]
name = "random"
label = "in steps"
schedule = { kind = "iterative", steps = 2, epochs = 1 }
finetune = { epochs = 1 }

[[pruners]]
name = "magnitude"
label = "taught"
finetune = { epochs = 1, distill = { weight = 0.5 } }
"""


def test_schedules_and_distillation_are_cells_like_others(tiny: Path, tmp_path: Path) -> None:
    variant(tiny, "epochs = 1", "epochs = 2")
    variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "sgd"\nlr = 0.05\nmomentum = 0.0')
    variant(tiny, 'name = "magnitude"\n', PRUNERS)
    records = run_one(tasks(tiny, tmp_path)[0])
    assert {record.status for record in records} == {"done"}
    (trial,) = by_kind(records, "trial")
    untouched, rewound, steps, taught = by_kind(records, "cell")
    assert (untouched.result["top1"], untouched.result["loss"]) == (trial.result["top1"], trial.result["loss"])
    for cell in (rewound, steps, taught):
        assert cell.result["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert [row["epoch"] for row in rewound.detail["schedule"]] == [2]
    assert [row["ratio"] for row in steps.detail["schedule"]] == [pytest.approx(1 - 0.5**0.5)]
    assert len(steps.detail["finetuning"]) == len(taught.detail["finetuning"]) == 1
    assert "schedule" not in taught.detail
