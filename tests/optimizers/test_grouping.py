"""Weight decay for weights alone: the same masks, the same steps, no decay of biases and normalization."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn, optim

from sgabench.optimizers.grouping import decay_weights_only
from sgabench.plugins import TrainingContext, optimizers

SHAPES = {"conv.weight": (6, 3, 3, 3), "bn.weight": (6,), "bn.bias": (6,), "fc.weight": (5, 6), "fc.bias": (5,)}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adamw": {},
    "sgd": {},
    "torch:Adagrad": {},
    "stochgradadam": {},
    "sampled:Adam": {},
    "sampled:SGD": {"momentum": 0.9, "mask_weight_decay": False},
    "sampled:AdamW": {"mask": "update"},
    "noisy:Adam": {},
    "prox:SGD": {},
}
Named = list[tuple[str, nn.Parameter]]


def parameters() -> Named:
    generator = torch.Generator().manual_seed(0)
    return [(name, nn.Parameter(torch.randn(shape, generator=generator))) for name, shape in SHAPES.items()]


def build(name: str, of: Named, decay: float, only_weights: bool) -> optim.Optimizer:
    options = {**OPTIMIZERS[name], "weight_decay": decay, "lr": 0.01}
    plugin = optimizers[name]
    built: optim.Optimizer = plugin.build(of, 5, TrainingContext(10, 5, {}), **plugin.resolve(options))
    if only_weights:
        decay_weights_only(built)
    return built


def advance(optimizer: optim.Optimizer, of: Named, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(100 + step)
        for name, parameter in of:
            parameter.grad = torch.randn(SHAPES[name], generator=generator)
        optimizer.step()


def trained(name: str, decay: float, only_weights: bool) -> dict[str, torch.Tensor]:
    of = parameters()
    advance(build(name, of, decay, only_weights), of, range(5))
    return {name: parameter.detach() for name, parameter in of}


@pytest.mark.parametrize("implementation", ["auto", "single", "foreach"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_are_as_with_decay_and_all_else_as_without(
    name: str, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGABENCH_IMPLEMENTATION", implementation)
    found, decayed, plain = trained(name, 0.1, True), trained(name, 0.1, False), trained(name, 0.0, False)
    for key, shape in SHAPES.items():
        assert torch.equal(found[key], (decayed if len(shape) > 1 else plain)[key]), key
        assert not torch.equal(decayed[key], plain[key]), key


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_grouping_continues_from_a_state_dict_to_the_same_bits(name: str) -> None:
    of, again = parameters(), parameters()
    optimizer = build(name, of, 0.1, True)
    advance(optimizer, of, range(3))
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), [parameter.detach() for _, parameter in of]), file)
    file.seek(0)
    state, values = torch.load(file)
    advance(optimizer, of, range(3, 6))
    with torch.no_grad():
        for (_, parameter), value in zip(again, values, strict=True):
            parameter.copy_(value)
    other = build(name, again, 0.1, True)
    other.load_state_dict(state)
    advance(other, again, range(3, 6))
    assert all(torch.equal(one, two) for (_, one), (_, two) in zip(of, again, strict=True))


def test_there_are_two_groups_with_the_same_other_options_and_the_weights_come_first() -> None:
    optimizer = build("sgd", parameters(), 0.1, True)
    weights, others = optimizer.param_groups
    assert (weights["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert weights["param_names"] == ["conv.weight", "fc.weight"]
    assert others["param_names"] == ["bn.weight", "bn.bias", "fc.bias"]
    assert (weights["lr"], weights["momentum"]) == (others["lr"], others["momentum"])


def test_a_wrapper_and_what_it_wraps_keep_the_same_groups() -> None:
    optimizer: Any = build("sampled:SGD", parameters(), 0.1, True)
    assert optimizer.param_groups is optimizer.base.param_groups
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize("shapes", [[(3, 2)], [(3,)]])
def test_a_group_without_members_is_not_made(shapes: list[tuple[int, ...]]) -> None:
    optimizer = optim.SGD([nn.Parameter(torch.zeros(shape)) for shape in shapes], lr=0.1, weight_decay=0.1)
    decay_weights_only(optimizer)
    (group,) = optimizer.param_groups
    assert group["weight_decay"] == (0.1 if len(shapes[0]) > 1 else 0)


def test_an_optimizer_without_decay_is_left_as_it_is() -> None:
    optimizer = optim.Rprop([nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3, 2))])
    decay_weights_only(optimizer)
    assert len(optimizer.param_groups) == 1
