"""How good a network is: top-1, top-5 from 20 classes on, loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import fill
from torch import nn

from sgabench.evidence.leaderboard import make_tables
from sgabench.report.display import sections
from sgabench.store.store import Store
from sgabench.suite.plan import Plan
from sgabench.training.evaluation import evaluate_batches


class Ranked(nn.Module):
    """Ranks the classes from the largest number down; the image says which number is the largest."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -(torch.arange(self.classes) - images[:, :1]).abs()

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes


def test_the_right_class_is_among_five_of_twenty() -> None:
    """Of 10.2, the first five are 10, 11, 9, 12, 8."""
    labels = torch.tensor([10, 11, 9, 12, 8, 13, 7, 0])
    batches = [(torch.full((len(part), 1), 10.2), part) for part in (labels[:3], labels[3:])]
    found = evaluate_batches(Ranked(20), batches, "fp32")
    assert (found.top1, found.top5) == (1 / 8, 5 / 8)
    assert found.numbers() == {"top1": 1 / 8, "loss": found.loss, "top5": 5 / 8}


def test_of_fewer_classes_five_are_no_feat() -> None:
    found = evaluate_batches(Ranked(19), [(torch.zeros(1, 1), torch.tensor([0]))], "fp32")
    assert (found.top1, found.top5) == (1.0, None)
    assert "top5" not in found.numbers()


def test_reports_show_it_where_it_was_measured(store: Store, plan: Plan) -> None:
    fill(store, plan)
    tables = make_tables(store, plan)
    assert tables.leaderboard["pruned_top5"].isna().all()
    assert "top-5 %" not in sections(tables)["digits, resnet8"]
    for kind, top5 in (("trial", 0.95), ("cell", 0.75)):
        for record in list(store.records(kind)):
            store.put(replace(record, result={**record.result, "top5": top5}))
    tables = make_tables(store, plan)
    row = tables.leaderboard.iloc[0]
    assert (row["dense_top5"], row["pruned_top5"]) == pytest.approx((0.95, 0.75))
    assert set(sections(tables)["digits, resnet8"]["top-5 %"]) == {"75.0"}
