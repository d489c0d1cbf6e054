"""A network from the user's own loop is pruned, measured and stored like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sgabench import trial_from
from sgabench.errors import InputError
from sgabench.store.store import Store

QUICK = ["measurement.throughput=false", "datasets.1.test_size=100"]


def network(seed: int, width: int = 12) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 10)
        )


def test_replicates_are_stored_with_their_seeds_and_pruned(tmp_path: Path) -> None:
    networks = [network(0), network(1)]
    before = [parameter.clone() for parameter in networks[0].parameters()]
    pruners = ["magnitude", {"name": "random", "include_classifier": True}]
    for _ in range(2):  # the second time, all is stored
        tables = trial_from(
            networks, "digits", label="mine", seed=3, pruners=pruners, ratios=[0.5], overrides=QUICK, results=tmp_path
        )
    assert set(tables.leaderboard["optimizer"]) == {"mine"}
    with Store(tmp_path) as store:
        trials, cells = list(store.records("trial")), list(store.records("cell"))
    assert sorted((r.labels["model"], r.labels["seed"]) for r in trials) == [
        ("own:Sequential", 3),
        ("own:Sequential", 4),
    ]
    assert len(cells) == 4
    assert all(cell.result["sparsity"] == pytest.approx(0.5, abs=0.01) for cell in cells)
    assert all(torch.equal(a, b) for a, b in zip(before, networks[0].parameters(), strict=True))


def test_other_weights_are_another_trial_and_so_is_another_form(tmp_path: Path) -> None:
    for given in (network(0), network(1), network(0, width=14)):
        trial_from(given, "digits", ratios=[0.5], overrides=QUICK, results=tmp_path)
    with Store(tmp_path) as store:
        assert len(list(store.records("trial"))) == 3


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    for wrong, message in (
        ([network(0), network(0, width=14)], "replicates must have the same form"),
        ([], r"takes a torch.nn.Module, or a list of them, not list"),
        ("digits", r"takes a torch.nn.Module, or a list of them, not str"),
        (nn.Flatten(), r"returns \(2, 64\) for 2 images"),
    ):
        with pytest.raises(InputError, match=message):
            trial_from(wrong, "digits", overrides=QUICK, results=tmp_path)  # type: ignore[arg-type]
    assert not (tmp_path / "store.sqlite").exists()
