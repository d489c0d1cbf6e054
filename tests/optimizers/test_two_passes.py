"""SAM and CrAM against their formulas, written out for a small network in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from sgabench.errors import InputError
from sgabench.optimizers.declared import needs_closure
from sgabench.optimizers.proximal import Proximal
from sgabench.optimizers.sampled import Sampled
from sgabench.optimizers.two_passes import SAM, CrAM
from sgabench.plugins import TrainingContext, optimizers

STEPS = 8
LR, MOMENTUM, DECAY = 0.05, 0.9, 0.02
Weights = dict[str, Tensor]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(4 * 9, 3)]
    return nn.Sequential(*layers).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(6, 2, 5, 5, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 3, (6,), generator=generator)


def gradient(model: nn.Module, weights: Weights, step: int) -> Weights:
    """At weights of our choice; by `functional_call`, which leaves the network alone."""
    images, labels = batch(step)
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    logits = torch.func.functional_call(model, {**leaves, **buffers}, (images,))
    found = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def by_the_formula(second: Callable[[nn.Module, Weights, Weights, int], Weights]) -> Weights:
    """SGD with momentum and decay by hand, on gradients that a formula makes of the first ones."""
    model = network()
    weights: Weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    velocity: Weights = {}
    for step in range(STEPS):
        seen = second(model, weights, gradient(model, weights, step), step)
        for name, value in seen.items():
            decayed = value + DECAY * weights[name]
            velocity[name] = MOMENTUM * velocity[name] + decayed if step else decayed
        weights = {name: value - LR * velocity[name] for name, value in weights.items()}
    return weights


def trained(optimizer_of: Callable[[optim.Optimizer], optim.Optimizer]) -> Weights:
    model = network()
    base = optim.SGD(model.named_parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    advance(model, optimizer_of(base), range(STEPS))
    return dict(model.named_parameters())


def advance(model: nn.Module, optimizer: optim.Optimizer, steps: range) -> None:
    for step in steps:
        images, labels = batch(step)

        def closure(images: Tensor = images, labels: Tensor = labels) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            return loss

        closure()
        optimizer.step(closure)


def assert_close(found: Weights, expected: Weights) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name].detach(), value, rtol=0, atol=1e-10)


def length(of: Weights) -> Tensor:
    return torch.cat([value.flatten() for value in of.values()]).norm()


@pytest.mark.parametrize("adaptive", [False, True], ids=["SAM", "ASAM"])
def test_sam_is_its_formula(adaptive: bool) -> None:
    rho = 0.5

    def second(model: nn.Module, weights: Weights, first: Weights, step: int) -> Weights:
        scale = {name: value.abs() if adaptive else torch.ones_like(value) for name, value in weights.items()}
        norm = length({name: scale[name] * first[name] for name in first})
        moved = {name: w + rho * scale[name] ** 2 * first[name] / norm for name, w in weights.items()}
        return gradient(model, moved, step)

    found = trained(lambda base: SAM(base, rho=rho, adaptive=adaptive))
    assert_close(found, by_the_formula(second))
    plain = by_the_formula(lambda model, weights, first, step: first)
    assert max((found[name] - plain[name]).abs().max() for name in plain) > 1e-3


def drawn(sparsities: tuple[float, ...], seed: int) -> list[float]:
    """What is drawn, from the state of an optimizer at each step."""
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = CrAM(optim.SGD([parameter]), sparsities=sparsities, seed=seed)
    found = []
    for _ in range(STEPS):
        found.append(optimizer._draw())
    return found


@pytest.mark.parametrize("sparse", [False, True], ids=["whole second gradient", "sparse second gradient"])
@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalized"])
@pytest.mark.parametrize("plus", [False, True], ids=["CrAM", "CrAM+"])
def test_cram_is_its_formula(plus: bool, normalize: bool, sparse: bool) -> None:
    rho, sparsities, seed = 0.3, (0.25, 0.5, 0.75), 5
    of_step = drawn(sparsities, seed)
    assert len(set(of_step)) > 1

    def second(model: nn.Module, weights: Weights, first: Weights, step: int) -> Weights:
        radius = rho / length(first) if normalize else rho
        moved = {name: w + radius * first[name] for name, w in weights.items()}
        prunable = [name for name, value in moved.items() if value.ndim > 1]
        ordered = torch.cat([moved[name].abs().flatten() for name in prunable]).sort().values
        smallest_kept = ordered[round(of_step[step] * len(ordered))]
        masks = {name: (moved[name].abs() >= smallest_kept).double() for name in prunable}
        pruned = {name: value * masks.get(name, 1.0) for name, value in moved.items()}
        found = gradient(model, pruned, step)
        if sparse:
            found = {name: value * masks.get(name, 1.0) for name, value in found.items()}
        return {name: value + first[name] if plus else value for name, value in found.items()}

    options: dict[str, Any] = {"plus": plus, "normalize": normalize, "sparse_gradient": sparse}
    found = trained(lambda base: CrAM(base, rho=rho, sparsities=sparsities, seed=seed, **options))
    assert_close(found, by_the_formula(second))


def test_sparsities_are_drawn_evenly_and_from_the_seed() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = CrAM(optim.SGD([parameter]), sparsities=(0.1, 0.2, 0.3), seed=1)
    counts = dict.fromkeys((0.1, 0.2, 0.3), 0)
    for _ in range(3000):
        counts[optimizer._draw()] += 1
    assert all(abs(count - 1000) < 5 * (3000 * 2 / 9) ** 0.5 for count in counts.values())
    assert drawn((0.1, 0.9), 0) == drawn((0.1, 0.9), 0)
    assert drawn((0.1, 0.9), 0) != drawn((0.1, 0.9), 1)


def test_what_is_excluded_is_not_pruned() -> None:
    model = network()
    base = optim.SGD(model.named_parameters(), lr=0.0)
    optimizer = CrAM(base, rho=0.0, sparsities=(0.5,), exclude=("4.*",))
    seen: list[dict[str, int]] = []

    def closure() -> Tensor:
        seen.append({name: int((p == 0).sum()) for name, p in model.named_parameters() if p.ndim > 1})
        loss = model(batch(0)[0]).square().mean()
        loss.backward()
        return loss

    closure()
    optimizer.step(closure)
    assert seen == [{"0.weight": 0, "4.weight": 0}, {"0.weight": 36, "4.weight": 0}]


@pytest.mark.parametrize("make", [lambda base: SAM(base, rho=0.1), lambda base: CrAM(base, rho=0.1, seed=3)])
def test_a_state_dict_continues_to_the_same_bits(make: Callable[[optim.Optimizer], optim.Optimizer]) -> None:
    whole, halves = network(), network()

    def optimizer_of(model: nn.Module) -> optim.Optimizer:
        return make(optim.SGD(model.named_parameters(), lr=LR, momentum=MOMENTUM))

    advance(whole, optimizer_of(whole), range(8))
    first = optimizer_of(halves)
    advance(halves, first, range(3))
    second = optimizer_of(halves)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    advance(halves, second, range(3, 8))
    for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weights_are_back_where_they_were_even_if_the_second_pass_fails() -> None:
    model = network()
    optimizer = SAM(optim.SGD(model.parameters(), lr=LR), rho=1.0)
    before = copy.deepcopy(model.state_dict())
    model(batch(0)[0]).sum().backward()

    def fails() -> float:
        assert not torch.equal(model[0].weight, before["0.weight"])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optimizer.step(fails)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_what_needs_a_closure_says_so() -> None:
    parameters = [nn.Parameter(torch.zeros(2, 2))]
    sgd = optim.SGD(parameters)
    assert not needs_closure(sgd)
    assert not needs_closure(Sampled(optim.SGD(parameters)))
    assert needs_closure(SAM(optim.SGD(parameters)))
    assert needs_closure(optim.LBFGS(parameters))
    assert needs_closure(Proximal(optim.LBFGS(parameters)))
    with pytest.raises(RuntimeError, match=r"SAM needs a second pass over the batch: call step\(closure\)"):
        SAM(sgd).step()


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("sam:SGD", {"rho": -1.0}, "rho"),
        ("sam:LBFGS", {}, "LBFGS cannot be wrapped: it computes its gradients itself"),
        ("sampled:LBFGS", {}, "LBFGS cannot be wrapped"),
        ("cram:SGD", {"sparsities": []}, "sparsities"),
        ("cram:SGD", {"sparsities": [1.0]}, "sparsities"),
        ("cram:SGD", {"sparsites": [0.5]}, "sparsites: SGD has no such option; did you mean 'sparsities'"),
        ("cram:Sgd", {}, "no optimizer 'Sgd'"),
    ],
)
def test_what_means_nothing_is_refused(name: str, options: dict[str, Any], problem: str) -> None:
    named = [("weight", nn.Parameter(torch.zeros(2, 2)))]
    with pytest.raises(InputError, match=problem) as caught:
        optimizers[name].build(named, 0, TrainingContext(10, 5, {}), **optimizers[name].resolve(options))
    assert "\n" not in str(caught.value)
