"""Magnitude and random pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from sgabench.measuring.measurement import measure_size
from sgabench.models.layers import prunable_layers
from sgabench.plugins import ImageSpec, PruningContext, pruners

MakeContext = Callable[..., PruningContext]
EVERYTHING = PruningContext(ImageSpec(3, 8, 8, 5), 0, lambda: iter(()), frozenset())
Scope = Literal["global", "layer"]


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: layer.weight.detach().clone() for name, layer in prunable_layers(network).items()}  # type: ignore[operator, union-attr]


def zeros(network: nn.Module) -> int:
    return sum(int((weight == 0).sum()) for weight in weights(network).values())


@settings(max_examples=60)
@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    levels=st.sampled_from([1, 2, 3, 1000]),
    ratio=st.floats(0, 0.999),
    seed=st.integers(0, 2**20),
)
def test_exactly_as_many_weights_are_zero_as_asked_with_ties_too(
    widths: list[int], levels: int, ratio: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randint(1, levels + 1, weight.shape, generator=generator))
    total = sum(weight.numel() for weight in weights(network).values())
    original = weights(network)
    pruned = pruners["magnitude"].build(copy.deepcopy(network), ratio, EVERYTHING)
    assert zeros(pruned) == round(ratio * total)
    gone = torch.cat([original[n][w == 0] for n, w in weights(pruned).items()])
    left = torch.cat([original[n][w != 0] for n, w in weights(pruned).items()])
    assert not len(gone) or not len(left) or gone.max() <= left.min()
    by_layer = pruners["magnitude"].build(network, ratio, EVERYTHING, scope="layer")
    for weight in weights(by_layer).values():
        assert int((weight == 0).sum()) == round(ratio * weight.numel())


def sharing(context: PruningContext) -> PruningContext:
    """The same context with the memory of a sweep."""
    made: dict[str, Any] = {}

    def once(name: str, make: Callable[[], Any]) -> Any:
        if name not in made:
            made[name] = make()
        return made[name]

    return replace(context, once=once)


def masks_of_torch(scores: list[Tensor], ratio: float, scope: Scope) -> list[Tensor]:
    """What torch's own pruning method takes away from the scores, with no state."""
    groups = [scores] if scope == "global" else [[score] for score in scores]
    masks = []
    for group in groups:
        row = torch.cat([score.flatten() for score in group])
        method: Any = prune.L1Unstructured(round(ratio * len(row)))
        parts = method.compute_mask(row, torch.ones_like(row)).split([score.numel() for score in group])
        masks += [part.view(score.shape) == 0 for part, score in zip(parts, group, strict=True)]
    return masks


@settings(max_examples=60)
@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    levels=st.sampled_from([1, 2, 3, 20, 1000, None]),
    ratios=st.lists(st.floats(0, 0.999), min_size=1, max_size=5),
    scope=st.sampled_from(["global", "layer"]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 2**20),
)
def test_a_sweep_prunes_as_each_ratio_alone_and_as_torch_does(
    widths: list[int], levels: int | None, ratios: list[float], scope: Scope, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(*(nn.Linear(a, b, dtype=dtype) for a, b in pairwise(widths)))
    with torch.no_grad():
        for weight in network.parameters():
            values = torch.randn(weight.shape, generator=generator)
            if levels is not None:
                values = torch.randint(-levels, levels + 1, weight.shape, generator=generator).float()
            weight.copy_(values)
    for name in ("magnitude", "random"):
        together = sharing(EVERYTHING)
        for ratio in ratios:
            swept = pruners[name].build(copy.deepcopy(network), ratio, together, scope=scope)
            alone = pruners[name].build(copy.deepcopy(network), ratio, EVERYTHING, scope=scope)
            for key, weight in weights(alone).items():
                assert torch.equal(weights(swept)[key], weight)
            if name == "magnitude":
                expected = masks_of_torch([weight.abs() for weight in weights(network).values()], ratio, scope)
                for key, mask in zip(weights(network), expected, strict=True):
                    assert torch.equal(weights(alone)[key], weights(network)[key].masked_fill(mask, 0.0))


def test_weights_that_are_zero_already_count_as_pruned(convnet: nn.Sequential, context: MakeContext) -> None:
    with torch.no_grad():
        convnet[10].weight.zero_()  # half of all weights
    total = sum(weight.numel() for weight in weights(convnet).values())
    already = zeros(convnet)
    more = pruners["magnitude"].build(copy.deepcopy(convnet), 0.8, context())
    assert zeros(more) == round(0.8 * total)
    fewer = pruners["magnitude"].build(copy.deepcopy(convnet), 0.1, context())
    assert zeros(fewer) == already
    for name, weight in weights(fewer).items():
        assert torch.equal(weight, weights(convnet)[name]), "enough is zero; nothing else may go"


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("name", ["magnitude", "random"])
def test_only_weights_of_layers_that_are_not_excluded_change(
    name: str, scope: Scope, convnet: nn.Sequential, context: MakeContext
) -> None:
    before = copy.deepcopy(convnet.state_dict())
    pruned = pruners[name].build(convnet, 0.5, context(excluded={"0", "12"}), scope=scope)
    after = pruned.state_dict()
    assert list(before) == list(after)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"3.weight", "6.weight", "10.weight"}
    size = measure_size(pruned, torch.zeros(1, 3, 8, 8), {"0", "12"})
    assert size.sparsity == pytest.approx(0.5, abs=2 / size.prunable_weights)
    if scope == "layer":
        assert size.layer_sparsity == pytest.approx({"0": 0, "3": 0.5, "6": 0.5, "10": 0.5, "12": 0}, abs=0.001)


@pytest.mark.parametrize("name", ["magnitude", "random"])
def test_nothing_is_left_behind(name: str, convnet: nn.Sequential, context: MakeContext, images: Tensor) -> None:
    convnet.to(memory_format=torch.channels_last)
    pruned = pruners[name].build(convnet, 0.5, context())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in pruned.modules())
    assert not any("_orig" in key or "_mask" in key for key in pruned.state_dict())
    assert not any(nn.utils.parametrize.is_parametrized(module) for module in pruned.modules())
    assert all(parameter.requires_grad for parameter in pruned.parameters())
    assert pruned[3].weight.is_contiguous(memory_format=torch.channels_last)
    twin = copy.deepcopy(pruned)
    twin.load_state_dict(pruned.state_dict(), strict=True)
    assert torch.equal(twin(images), pruned(images))


@pytest.mark.parametrize("name", ["magnitude", "random"])
def test_ratio_zero_changes_nothing(name: str, convnet: nn.Sequential, context: MakeContext) -> None:
    before = copy.deepcopy(convnet.state_dict())
    after = pruners[name].build(convnet, 0.0, context()).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_excluding_everything_prunes_nothing(convnet: nn.Sequential, context: MakeContext) -> None:
    before = zeros(convnet)
    assert zeros(pruners["magnitude"].build(convnet, 0.9, context(excluded=prunable_layers(convnet)))) == before


def test_memory_format_does_not_change_what_is_pruned(convnet: nn.Sequential, context: MakeContext) -> None:
    for name in ("magnitude", "random"):
        plain = pruners[name].build(copy.deepcopy(convnet), 0.5, context())
        last = pruners[name].build(copy.deepcopy(convnet).to(memory_format=torch.channels_last), 0.5, context())
        for key, weight in weights(plain).items():
            assert torch.equal(weight, weights(last)[key])


def test_global_scope_takes_from_layers_of_small_weights(convnet: nn.Sequential, context: MakeContext) -> None:
    with torch.no_grad():
        convnet[3].weight.mul_(1e-9)
    share = convnet[3].weight.numel() / sum(weight.numel() for weight in weights(convnet).values())
    pruned = pruners["magnitude"].build(convnet, share, context())
    assert all(bool((w == 0).all()) == (name == "3") for name, w in weights(pruned).items())


def test_the_random_draw_depends_on_the_seed_alone(convnet: nn.Sequential, context: MakeContext) -> None:
    def draw(seed: int, ratio: float = 0.5) -> dict[str, Tensor]:
        pruned = pruners["random"].build(copy.deepcopy(convnet), ratio, context(seed=seed))
        return {name: weight == 0 for name, weight in weights(pruned).items()}

    torch.manual_seed(1)
    first = draw(seed=7)
    state = torch.get_rng_state()
    again = draw(seed=7)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = draw(seed=8)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert sum(int(zero.sum()) for zero in first.values()) == round(0.5 * sum(z.numel() for z in first.values()))
    smaller = draw(seed=7, ratio=0.2)
    assert all(bool((first[name] | ~smaller[name]).all()) for name in first), "nested"


def test_random_pruning_ignores_magnitudes(convnet: nn.Sequential, context: MakeContext) -> None:
    with torch.no_grad():
        convnet[3].weight.mul_(1e-3)
    pruned = pruners["random"].build(convnet, 0.5, context())
    for weight in weights(pruned).values():
        n = weight.numel()
        assert int((weight == 0).sum()) == pytest.approx(n / 2, abs=4 * (n / 4) ** 0.5)


def test_the_options_say_of_what_the_ratio_is() -> None:
    assert pruners["magnitude"].resolve({}) == {"scope": "global", "of": "weights"}
    assert pruners["random"].resolve({"scope": "layer"}) == {"scope": "layer", "of": "weights"}
    assert pruners["structured"].resolve({}) == {"scope": "global", "of": "params"}
    with pytest.raises(ValueError, match="channels"):
        pruners["magnitude"].resolve({"of": "channels"})
