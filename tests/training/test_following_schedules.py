"""Pruning in steps, during a training, and with rewinding."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support import TINY
from torch import Tensor, nn

from sgabench.models.layers import prunable_weights
from sgabench.plugins import PruningContext, pruners
from sgabench.suite.plan import TrialPlan, make_plan
from sgabench.suite.resolving import load_suite
from sgabench.suite.schedules import Gradual, Iterative, OneShot, Rewind
from sgabench.training.building import load_data, train_network, untrained_network
from sgabench.training.data import Data, batches
from sgabench.training.finetuning import After
from sgabench.training.schedules import cubic_ratio, follow, ratio_of_step

EXCLUDED = frozenset({"conv1", "fc"})


@pytest.fixture
def trial(tmp_path: Path) -> TrialPlan:
    path = tmp_path / "tiny.toml"
    text = TINY.replace('name = "adam"\nlr = 0.01', 'name = "sgd"\nlr = 0.1\nmomentum = 0.0')
    path.write_text(text.replace("epochs = 1", 'epochs = 3\nschedule = "cosine"\naugmentation = ["crop"]'))
    return make_plan(load_suite(path), tmp_path).trials[0]


@pytest.fixture
def data(trial: TrialPlan, tmp_path: Path) -> Data:
    return load_data(trial.dataset, tmp_path, False, "cpu")


@pytest.fixture
def after(trial: TrialPlan, data: Data) -> After:
    return After(trial, data, "fp32", EXCLUDED, lambda progress: None)


def trained(trial: TrialPlan, data: Data, epochs: range | None = None) -> nn.Module:
    network = untrained_network(trial, data)
    train_network(network, trial, data, "fp32", lambda progress: None, epochs=epochs)
    return network


class Recording:
    """Prunes by a score, and remembers what it was asked for."""

    def __init__(self, data: Data, score: str = "magnitude", **options: Any) -> None:
        self.asked: list[float] = []
        self.found: list[nn.Module] = []
        self._score, self._options = score, options
        self._context = PruningContext(data.spec, 0, lambda: batches(data, data.train, 64), EXCLUDED)

    def __call__(self, network: nn.Module, ratio: float) -> None:
        assert not network.training
        self.asked.append(ratio)
        self.found.append(copy.deepcopy(network))
        pruners[self._score].build(network, ratio, self._context, **self._options)


def zeros(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight == 0 for name, weight in prunable_weights(network, EXCLUDED).items()}


def count(network: nn.Module) -> int:
    return sum(int(zero.sum()) for zero in zeros(network).values())


def total(network: nn.Module) -> int:
    return sum(weight.numel() for weight in prunable_weights(network, EXCLUDED).values())


def never(epochs: int) -> Mapping[str, Tensor]:
    raise AssertionError("nothing is rewound")


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_each_step_keeps_the_same_share() -> None:
    left = [1 - ratio_of_step(0.9, step, 4) for step in range(1, 5)]
    assert [b / a for a, b in zip([1, *left], left, strict=False)] == pytest.approx([0.1**0.25] * 4)
    assert ratio_of_step(0.9, 4, 4) == 0.9


def test_the_cubic_schedule() -> None:
    assert [cubic_ratio(0.8, step, 4) for step in range(5)] == pytest.approx([0, 0.4625, 0.7, 0.7875, 0.8])


def test_in_steps_with_training_between(trial: TrialPlan, data: Data, after: After) -> None:
    network, prune = trained(trial, data), Recording(data)
    dense = copy.deepcopy(network)
    rows = follow(Iterative(kind="iterative", steps=3, epochs=1), network, 0.8, prune, after, never)
    assert prune.asked == pytest.approx([1 - 0.2 ** (1 / 3), 1 - 0.2 ** (2 / 3), 0.8])
    assert count(network) == round(0.8 * total(network))
    assert [(row["epoch"], row["ratio"]) for row in rows] == [(1, ratio) for ratio in prune.asked[:2]]
    first, second, third = prune.found
    assert same(first, dense)
    assert count(second) == round(prune.asked[0] * total(network)), "what was pruned stays zero while it is trained"
    assert not torch.equal(first.fc.weight, second.fc.weight)
    assert not torch.equal(second.fc.weight, third.fc.weight)
    for name, zero in zeros(network).items():
        assert bool((zero | ~zeros(third)[name]).all())


def test_in_steps_without_training_scores_are_looked_at_anew(trial: TrialPlan, data: Data, after: After) -> None:
    dense = trained(trial, data)
    once, steps = copy.deepcopy(dense), copy.deepcopy(dense)
    assert follow(OneShot(kind="one-shot"), once, 0.9, Recording(data, "synflow"), after, never) == []
    schedule = Iterative(kind="iterative", steps=20, epochs=0)
    assert follow(schedule, steps, 0.9, Recording(data, "synflow"), after, never) == []
    assert count(once) == count(steps) == round(0.9 * total(dense))
    assert not same(once, steps)


@pytest.mark.parametrize("options", [{}, {"pattern": "2:4"}, {"allocation": "erk"}], ids=str)
def test_gradually(options: dict[str, Any], trial: TrialPlan, data: Data, after: After) -> None:
    network, prune = trained(trial, data), Recording(data, "taylor", **options)
    rows = follow(Gradual(kind="gradual", epochs=2, steps=3), network, 0.6, prune, after, never)
    assert prune.asked == pytest.approx([cubic_ratio(0.6, step, 3) for step in (1, 2, 3)])
    assert count(network) == round(0.6 * total(network))
    assert [row["ratio"] for row in rows] == pytest.approx([prune.asked[1], 0.6])
    for earlier, later in zip(prune.found[1:], [*prune.found[2:], network], strict=True):
        for name, zero in zeros(later).items():
            assert bool((zero | ~zeros(earlier)[name]).all()), "what was pruned stays zero"
    assert not network.training


def test_gradually_with_more_steps_than_the_training_has(trial: TrialPlan, data: Data, after: After) -> None:
    network, prune = trained(trial, data), Recording(data)
    follow(Gradual(kind="gradual", epochs=1, steps=50), network, 0.5, prune, after, never)
    assert len(prune.asked) == len(data.train) // 64
    assert prune.asked[-1] == 0.5
    assert count(network) == round(0.5 * total(network))


@pytest.mark.parametrize("to", [0, 1, 2])
def test_a_training_that_is_rewound_and_not_pruned_gives_the_same_bits(
    to: int, trial: TrialPlan, data: Data, after: After
) -> None:
    dense = trained(trial, data)
    network = copy.deepcopy(dense)
    early = trained(trial, data, range(to)) if to else untrained_network(trial, data)
    asked: list[int] = []

    def weights_after(epochs: int) -> Mapping[str, Tensor]:
        asked.append(epochs)
        return early.state_dict()

    rows = follow(Rewind(kind="rewind", to=to), network, 0.0, Recording(data), after, weights_after)
    assert asked == [to]
    assert [row["epoch"] for row in rows] == list(range(to + 1, 4))
    assert same(network, dense)


def test_lottery_tickets_begin_with_early_weights_and_hold_their_masks(
    trial: TrialPlan, data: Data, after: After
) -> None:
    network, prune = trained(trial, data), Recording(data)
    dense = copy.deepcopy(network)
    early = untrained_network(trial, data).state_dict()
    rows = follow(Rewind(kind="rewind", steps=2), network, 0.75, prune, after, lambda epochs: early)
    assert prune.asked == pytest.approx([0.5, 0.75])
    assert [row["epoch"] for row in rows] == [1, 2, 3] * 2
    assert count(network) == round(0.75 * total(network))
    masked = copy.deepcopy(dense)
    pruners["magnitude"].build(masked, 0.5, prune._context)
    assert all(torch.equal(zero, zeros(masked)[name]) for name, zero in zeros(prune.found[1]).items())
    for name, zero in zeros(network).items():
        assert bool((zero | ~zeros(prune.found[1])[name]).all())


def test_rates_alone_are_rewound(trial: TrialPlan, data: Data, after: After) -> None:
    network = trained(trial, data)
    schedule = Rewind(kind="rewind", to=1, restore="rates")
    rows = follow(schedule, network, 0.5, Recording(data), after, never)
    whole = train_network(untrained_network(trial, data), trial, data, "fp32", lambda progress: None)
    assert [row["lr"] for row in rows] == [row["lr"] for row in whole.history[1:]]
    assert count(network) == round(0.5 * total(network))
