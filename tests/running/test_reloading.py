"""What a network keeps outside of its weights is noticed before a reloaded one is used."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from support import variant
from torch import Tensor, nn
from trials import by_kind, run_one, tasks, without_times

from sgabench.plugins import ImageSpec, models
from sgabench.store.store import weights_path


class _Remembering(nn.Module):
    """Multiplies by the mean of what it has seen in training, which its state does not have."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.head = nn.Linear(spec.channels * spec.height * spec.width, spec.classes)
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.scale = 0.5 * self.scale + 0.5 * images.detach().square().mean() - 2
        return self.head(images.flatten(1) * self.scale)  # type: ignore[no-any-return]


def test_a_network_that_keeps_state_elsewhere_is_trained_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    models.load()
    monkeypatch.setattr(models, "_plugins", copy.copy(models._plugins))

    @models.register("remembering")
    def remembering(spec: ImageSpec) -> nn.Module:
        """Keeps something outside of its state."""
        return _Remembering(spec)

    variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "remembering"')
    first = run_one(tasks(tiny, tmp_path)[0])
    kept = [record for record in first if record.kind != "cell"]
    (again,) = [task for task in tasks(tiny, tmp_path, kept) if task.trained]
    with caplog.at_level(logging.WARNING, "sgabench"):
        records = run_one(again)
    assert "remembering keeps state outside its weights that training changes" in caplog.text
    (cell,) = by_kind(records, "cell")
    assert without_times(cell) == without_times(by_kind(first, "cell")[0])


@pytest.mark.parametrize("same", [True, False])
def test_numbers_are_compared_exactly_where_they_must_be_the_same(same: bool, tiny: Path, tmp_path: Path) -> None:
    first: Any = run_one(tasks(tiny, tmp_path)[0])
    trained = first[0]
    trained.result["loss"] *= 1 + 1e-5
    if not same:
        trained.environment["cpu"] = "another"
    kept = [record for record in first if record.kind != "cell"]
    (again,) = [task for task in tasks(tiny, tmp_path, kept) if task.trained]
    assert [record.kind for record in run_one(again)] == (["trial", "cell"] if same else ["cell"])
    assert weights_path(tmp_path, trained.key).is_file()
