"""Every score with every pattern and every allocation: counts, ties, odd layers, types, determinism."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sgabench.errors import InputError
from sgabench.models.layers import prunable_layers, prunable_weights
from sgabench.plugins import ImageSpec, PruningContext, pruners, scores
from sgabench.pruners.parts import read_pattern
from sgabench.pruners.patterns import as_rows, units_of
from sgabench.pruners.unstructured import prune_by_scores

SPEC = ImageSpec(channels=3, height=5, width=5, classes=4)
SCORES = [score.name for score in scores.plugins()]
PATTERNS: list[Any] = ["weights", "2:4", "1:3", {"block": [2, 3]}, "filters"]
ALLOCATIONS: list[Any] = ["global", "layer", "erk", "lamp", {"first": 0.0, "tied*": 0.75}]
RATIO = 0.7
LABELS = torch.tensor([0, 3, 1, 2, 2, 0])


class Odd(nn.Module):
    """A layer of zeros, one with fewer weights in a row than a pattern has, equal weights, and two that are tied."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.zeros = nn.Conv2d(8, 8, 1)
        self.equal = nn.Conv2d(8, 8, 3, bias=False)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
        self.tied = nn.Linear(6, 6)
        self.tied_too = nn.Linear(6, 6)
        self.last = nn.Linear(6, 4)
        self.tied_too.weight = self.tied.weight
        nn.init.zeros_(self.zeros.weight)
        nn.init.constant_(self.equal.weight, 0.25)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        x = (self.depthwise(x) + self.zeros(x)).relu()
        x = self.up(self.equal(x).relu()).relu().mean((2, 3))
        return self.last(self.tied_too(self.tied(x).relu()).relu())  # type: ignore[no-any-return]


def made(seed: int, dtype: torch.dtype, score: str = "") -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Odd()
        if score == "random":  # which draws zeros like any other weight
            nn.init.ones_(network.zeros.weight)
        return network.to(dtype).eval()


def context(dtype: torch.dtype) -> PruningContext:
    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        images = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
        yield images[:4], LABELS[:4]
        yield images[4:], LABELS[4:]

    return PruningContext(SPEC, 0, batches, frozenset({"last"}), initial=lambda: made(5, dtype))


@cache
def found(score: str, dtype: torch.dtype) -> dict[str, Tensor]:
    return scores[score].build(made(0, dtype, score), context(dtype))  # type: ignore[no-any-return]


def pruned(score: str, pattern: Any, allocation: Any, dtype: torch.dtype, ratio: float = RATIO) -> nn.Module:
    """As the pruner of the score does it, with scores that are computed once for all tests."""
    zeros_first = not scores[score].tags.get("ignores_values", False)
    network, given = made(0, dtype, score), lambda: found(score, dtype)
    return prune_by_scores(
        network, ratio, context(dtype), given, read_pattern(pattern), allocation, zeros_first=zeros_first
    )


def zeros_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() == 0 for name, weight in prunable_weights(network, {"last"}).items()}


def is_allowed(score: str, allocation: Any) -> bool:
    return not (allocation == "lamp" and scores[score].tags.get("signed"))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("score", SCORES)
def test_every_combination(score: str, pattern: Any) -> None:
    for allocation, dtype in itertools.product(ALLOCATIONS, [torch.float32, torch.bfloat16]):
        if is_allowed(score, allocation):
            _check(score, pattern, allocation, dtype)
        else:
            with pytest.raises(InputError, match="'lamp' divides squared scores"):
                pruners[score].resolve({"allocation": allocation})


def _check(score: str, pattern: Any, allocation: Any, dtype: torch.dtype) -> None:
    network = pruned(score, pattern, allocation, dtype)
    dense = made(0, dtype, score)
    before, after = zeros_of(dense), zeros_of(network)
    _only_zeros_are_new(dense, network)
    assert network.tied.weight is network.tied_too.weight
    counts = {name: int(zero.sum()) for name, zero in after.items()}
    sizes = {name: zero.numel() for name, zero in after.items()}
    asked = round(RATIO * sum(sizes.values()))
    layers = prunable_layers(network, {"last"})
    grouped = read_pattern(pattern).kind in ("block", "filters")
    if grouped:
        units = {name: units_of(layer, after[name], read_pattern(pattern)) for name, layer in layers.items()}
        for name, unit in units.items():
            new = after[name] & ~before[name]
            for number in unit[new].unique():
                assert bool(after[name][unit == number].all()), "a group goes whole"
        slack = sum(int(unit.flatten().bincount().max()) for unit in units.values()) / 2
    else:
        slack = 0
    if allocation == "layer":
        for name, size in sizes.items():
            at_least = int(before[name].sum()) if score != "random" else 0
            own = max(round(RATIO * size), at_least)
            assert abs(counts[name] - own) <= (int(units[name].flatten().bincount().max()) / 2 if grouped else 0), name
    else:
        assert abs(sum(counts.values()) - asked) <= slack
    if isinstance(allocation, dict):
        assert torch.equal(after["first"], before["first"])
        if not grouped:
            assert counts["tied"] == 27
    if read_pattern(pattern).kind == "n:m":
        kept, size = read_pattern(pattern).sizes
        for name, layer in layers.items():
            if isinstance(allocation, dict) and name == "first":
                continue
            for group in as_rows(layer, ~after[name]).split(size, dim=-1):
                assert int(group.sum(-1).max()) <= kept, name
    again = pruned(score, pattern, allocation, dtype)
    assert all(torch.equal(zero, after[name]) for name, zero in zeros_of(again).items())


def _only_zeros_are_new(dense: nn.Module, network: nn.Module) -> None:
    state = network.state_dict()
    for key, value in dense.state_dict().items():
        assert torch.equal(state[key], value) or (key.endswith(".weight") and not key.startswith(("last", "norm")))
        assert bool(((state[key] == value) | (state[key] == 0)).all())


@pytest.mark.parametrize("score", SCORES)
def test_the_lowest_scores_go(score: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        network, dense = pruned(score, "weights", "global", dtype), made(0, dtype, score)
        new = {name: zero & ~zeros_of(dense)[name] for name, zero in zeros_of(network).items()}
        gone = torch.cat([found(score, dtype)[name][zero] for name, zero in new.items()])
        left = torch.cat([found(score, dtype)[name][~zero] for name, zero in zeros_of(network).items()])
        assert len(gone)
        assert gone.max() <= left.min()


@pytest.mark.parametrize("score", SCORES)
def test_what_a_smaller_ratio_takes_a_greater_one_takes_too(score: str) -> None:
    for pattern, allocation in itertools.product(PATTERNS, ["global", "layer"]):
        smaller, greater = (zeros_of(pruned(score, pattern, allocation, torch.float32, r)) for r in (0.68, 0.9))
        assert all(bool((greater[name] | ~zero).all()) for name, zero in smaller.items())


@pytest.mark.parametrize("score", SCORES)
def test_a_suites_pruner_gives_the_same_with_any_number_of_threads(score: str) -> None:
    options = pruners[score].resolve({"pattern": "2:4", "allocation": "erk"})
    threads = torch.get_num_threads()
    masks = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            network = pruners[score].build(made(0, torch.float32, score), RATIO, context(torch.float32), **options)
            masks.append(zeros_of(network))
    finally:
        torch.set_num_threads(threads)
    expected = zeros_of(pruned(score, "2:4", "erk", torch.float32))
    for mask in masks:
        assert all(torch.equal(zero, expected[name]) for name, zero in mask.items())


@pytest.mark.parametrize("score", SCORES)
def test_ratio_zero_changes_nothing(score: str) -> None:
    for pattern, allocation in itertools.product(PATTERNS, ["global", "layer", "erk"]):
        network = pruned(score, pattern, allocation, torch.float32, 0.0)
        dense = made(0, torch.float32, score).state_dict()
        assert all(torch.equal(value, dense[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("score", SCORES)
def test_on_the_way_to_n_of_m_only_what_that_takes_goes(score: str) -> None:
    done = zeros_of(pruned(score, "2:4", "global", torch.float32, 0.5))
    half = zeros_of(pruned(score, "2:4", "global", torch.float32, 0.25))
    assert sum(int(zero.sum()) for zero in half.values()) == round(0.25 * sum(z.numel() for z in half.values()))
    assert all(bool((done[name] | ~zero).all()) for name, zero in half.items())


def test_one_pass_of_scores_serves_all_ratios() -> None:
    calls = []
    made_once: dict[str, Any] = {}

    def once(name: str, make: Callable[[], Any]) -> Any:
        if name not in made_once:
            made_once[name] = make()
        return made_once[name]

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        calls.append(1)
        return context(torch.float32).batches()

    given = replace(context(torch.float32), once=once, batches=batches)
    for ratio in (0.5, 0.7, 0.9):
        pruners["taylor"].build(made(0, torch.float32, "taylor"), ratio, given, pattern="2:4", allocation="erk")
    assert len(calls) == 1
