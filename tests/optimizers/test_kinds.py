"""Kinds of masks beside an element at a time, seen through an optimizer that shows its gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from sgabench.optimizers.sampled import Sampled

SHAPES = {"conv": (8, 6, 3, 3), "vector": (40,), "scalar": ()}


def parameters() -> list[tuple[str, nn.Parameter]]:
    return [(name, nn.Parameter(torch.zeros(shape))) for name, shape in SHAPES.items()]


def optimizer_of(named: list[tuple[str, nn.Parameter]], **options: Any) -> Sampled:
    return Sampled(optim.SGD(named, lr=1.0), **{"sampling_rate": 0.5, "seed": 3, **options})


def masks(number: int, /, **options: Any) -> list[dict[str, Tensor]]:
    """Which elements are kept at each step: what a step of SGD with lr 1 moves where every gradient is 1."""
    named = parameters()
    optimizer = optimizer_of(named, **options)
    found = []
    for _ in range(number):
        before = {name: p.detach().clone() for name, p in named}
        for _, parameter in named:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        found.append({name: before[name] - p.detach() for name, p in named})
    return found


def test_a_filter_is_kept_or_dropped_as_a_whole() -> None:
    seen = masks(200, kind="filter")
    conv = torch.stack([mask["conv"] for mask in seen])
    flat = conv.flatten(2)
    assert torch.equal(flat.amin(2), flat.amax(2))
    kept = flat[:, :, 0]
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert abs(kept.mean() - 0.5) < 5 * 0.5 / kept.numel() ** 0.5
    vector = torch.stack([mask["vector"] for mask in seen])  # every element is one of its own
    assert 0 < vector[0].mean() < 1
    assert not torch.equal(vector[0], vector[1])


def test_a_layer_is_kept_or_dropped_as_a_whole() -> None:
    seen = masks(400, kind="layer", sampling_rate=0.25)
    kept = {name: torch.stack([mask[name].flatten() for mask in seen]) for name in SHAPES}
    for each in kept.values():
        assert torch.equal(each.amin(1), each.amax(1))
        assert abs(each[:, 0].mean() - 0.25) < 5 * (0.25 * 0.75 / 400) ** 0.5
    assert not torch.equal(kept["conv"][:, 0], kept["vector"][:, 0])


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_largest_gradients_are_kept(memory: torch.memory_format) -> None:
    weight = nn.Parameter(torch.zeros(4, 3, 3, 3).to(memory_format=memory))
    optimizer = Sampled(optim.SGD([weight], lr=1.0), kind="top-k", sampling_rate=0.25)
    gradient = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weight.grad = gradient.clone(memory_format=torch.preserve_format).to(memory_format=memory)
    optimizer.step()
    kept = weight.detach() != 0
    assert kept.sum() == 27
    assert torch.equal(-weight.detach(), gradient * kept)
    assert gradient.abs()[kept].min() >= gradient.abs()[~kept].max()


@pytest.mark.parametrize(("rate", "period", "times"), [(0.25, 4, 1), (0.5, 2, 1), (0.75, 4, 3)])
def test_every_element_has_its_turn(rate: float, period: int, times: int) -> None:
    """Rates that 32 bits hold exactly."""
    seen = torch.stack([mask["conv"] for mask in masks(3 * period + 1, kind="cyclic", sampling_rate=rate)])
    for start in range(2 * period):
        assert set(seen[start : start + period].sum(0).unique().tolist()) == {float(times)}
    assert abs(seen[0].mean() - rate) < 5 * (rate * (1 - rate) / seen[0].numel()) ** 0.5


def test_turns_of_any_length_are_fair() -> None:
    seen = torch.stack([mask["conv"] for mask in masks(50, kind="cyclic", sampling_rate=0.8)])
    assert ((seen.sum(0) - 40).abs() <= 1).all()


@pytest.mark.parametrize("kind", ["element", "filter", "layer", "cyclic"])
def test_a_mask_is_held(kind: str) -> None:
    seen = masks(9, kind=kind, hold=3)
    once = masks(3, kind=kind)
    for number, mask in enumerate(seen):
        assert all(torch.equal(mask[name], once[number // 3][name]) for name in SHAPES)


@pytest.mark.parametrize("kind", ["element", "filter", "top-k"])
def test_the_rate_goes_to_another_one(kind: str) -> None:
    seen = masks(6, kind=kind, sampling_rate=1.0, final_sampling_rate=0.2, steps=5)
    share = [float(mask["conv"].mean()) for mask in seen]
    sizes = {"element": 432, "filter": 8, "top-k": 10**6}[kind]
    for found, expected in zip(share, [1.0, 0.8, 0.6, 0.4, 0.2, 0.2], strict=True):
        assert abs(found - expected) <= 4 * (expected * (1 - expected) / sizes) ** 0.5 + 0.002


def test_what_is_kept_is_scaled_by_the_rate_of_the_step() -> None:
    seen = masks(2, kind="layer", sampling_rate=1.0, final_sampling_rate=0.5, steps=2, rescale=True, seed=1)
    assert {value for mask in seen[1:] for each in mask.values() for value in each.flatten().tolist()} <= {0.0, 2.0}
    assert {value for each in seen[0].values() for value in each.flatten().tolist()} == {1.0}


def test_what_is_excluded_is_whole() -> None:
    seen = masks(5, kind="layer", exclude=("conv",))
    assert all(bool((mask["conv"] == 1).all()) for mask in seen)


@pytest.mark.parametrize("kind", ["filter", "layer", "top-k", "cyclic", "element"])
def test_a_state_dict_continues_to_the_same_bits(kind: str) -> None:
    options = {"kind": kind, "hold": 1 if kind == "top-k" else 2}

    def advance(named: list[tuple[str, nn.Parameter]], optimizer: Sampled, steps: range) -> None:
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            for _, parameter in named:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()

    whole, halves = parameters(), parameters()
    advance(whole, optimizer_of(whole, **options), range(7))
    first = optimizer_of(halves, **options)
    advance(halves, first, range(3))
    second = optimizer_of(halves, **options)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    advance(halves, second, range(3, 7))
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(whole, halves, strict=True))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"kind": "channel"}, "Invalid kind: 'channel'"),
        ({"kind": "top-k", "hold": 2}, "hold must be 1"),
        ({"kind": "cyclic", "final_sampling_rate": 0.5}, "final_sampling_rate is impossible"),
        ({"kind": "filter", "distribution": "gaussian"}, "needs distribution='bernoulli'"),
        ({"final_sampling_rate": 0.0}, r"Invalid final_sampling_rate: 0.0; it must be in \(0, 1\]"),
        ({"hold": 0}, "Invalid hold: 0"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        optimizer_of(parameters(), **options)
