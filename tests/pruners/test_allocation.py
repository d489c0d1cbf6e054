"""How much goes where: Erdős-Rényi-Kernel, tables, LAMP."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sgabench.errors import InputError
from sgabench.models.adaptive import layer_adaptive
from sgabench.plugins import ImageSpec, PruningContext, pruners
from sgabench.pruners.allocation import counts_of, fields_of

EVERYTHING = PruningContext(ImageSpec(3, 8, 8, 5), 0, lambda: iter(()), frozenset())


def densities_of_rigl(shapes: list[tuple[int, ...]], density: float) -> list[float]:
    """As RigL's code goes about it: the layers that would be denser than dense are dense, the others share the rest."""
    dense: set[int] = set()
    sizes = [torch.Size(shape).numel() for shape in shapes]
    raw = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    while True:
        left = density * sum(sizes) - sum(sizes[i] for i in dense)
        factor = left / sum(raw[i] * sizes[i] for i in range(len(shapes)) if i not in dense)
        over = [i for i in range(len(shapes)) if i not in dense and factor * raw[i] > 1 + 1e-9]
        if not over:
            return [1.0 if i in dense else factor * raw[i] for i in range(len(shapes))]
        dense |= {max(over, key=lambda i: raw[i])}


@settings(max_examples=80)
@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3]), st.sampled_from([1, 3])),
        min_size=1,
        max_size=6,
    ),
    ratio=st.floats(0, 0.99),
)
def test_erk_has_the_densities_of_rigl_and_the_exact_number(shapes: list[tuple[int, ...]], ratio: float) -> None:
    fields = fields_of("erk", [str(number) for number in range(len(shapes))])
    sizes = [torch.Size(shape).numel() for shape in shapes]
    counts = counts_of("erk", fields, [torch.Size(shape) for shape in shapes], ratio, [(0, size) for size in sizes])
    total = round(ratio * sum(sizes))
    assert sum(counts) == total
    exact = densities_of_rigl(shapes, 1 - total / sum(sizes))
    for count, size, density in zip(counts, sizes, exact, strict=True):
        assert abs(count - (1 - density) * size) <= 1.001


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise([10, 20, 10, 5])))


def zeros(of: nn.Module) -> list[int]:
    return [int((layer.weight == 0).sum()) for layer in of.modules() if isinstance(layer, nn.Linear)]


def test_a_table_sets_layers_and_the_rest_makes_up_for_them() -> None:
    pruned = pruners["magnitude"].build(network(), 0.5, EVERYTHING, allocation={"0": 0.1, "[02]": 0.9})
    assert zeros(pruned)[0] == 20, "the first name that fits counts"
    assert zeros(pruned)[2] == 45
    assert sum(zeros(pruned)) == 225


@pytest.mark.parametrize(
    ("table", "ratio", "message"),
    [
        ({"layer*": 0.5}, 0.5, r"allocation: 'layer\*' matches no prunable layer; valid: 0, 1, 2"),
        ({"[01]": 0.0}, 0.5, r"from 0 to 0.111 of the weights can be pruned, not 0.5"),
        ({"[01]": 0.9}, 0.2, r"from 0.8 to 0.911 of the weights can be pruned, not 0.2"),
        ({"*": 0.5}, 0.8, r"covers every layer and prunes 0.5 of the weights, not 0.8; .* or set ratios = \[0.5\]"),
    ],
)
def test_a_table_that_cannot_be_is_one_line(table: dict[str, float], ratio: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pruners["magnitude"].build(network(), ratio, EVERYTHING, allocation=table)


def test_a_table_of_all_layers_is_each_of_them() -> None:
    assert zeros(pruners["magnitude"].build(network(), 0.5, EVERYTHING, allocation={"*": 0.5})) == [100, 100, 25]


def test_lamp_as_an_allocation_of_magnitude_is_lamp_as_a_score() -> None:
    one, other = network(), network()
    pruners["magnitude"].build(one, 0.7, EVERYTHING, allocation="lamp")
    pruners["lamp"].build(other, 0.7, EVERYTHING)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert sum(zeros(one)) == round(0.7 * 450)


def test_lamp_of_zeros_and_ties() -> None:
    assert layer_adaptive(torch.tensor([0.0, 0.0])).tolist() == [0, 0]
    found = layer_adaptive(torch.tensor([[2.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[1, 1 / 6], [1 / 5, 0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"0": torch.ones(20, 10)}, "gives nothing for layer '1', not a tensor of shape"),
        ({"0": torch.ones(3)}, r"gives \(3,\) for layer '0', not a tensor of shape \(20, 10\)"),
        ({"0": torch.full((20, 10), torch.nan)}, "the score of layer '0' is not finite"),
        ("abc", "the score returns str, not a dictionary of layer names to tensors"),
        (None, "the score returns NoneType, not a dictionary"),
    ],
)
def test_scores_that_do_not_fit_are_one_line(found: Any, message: str) -> None:
    from sgabench.plugins import scores

    scores.register("bad")(lambda network, context: found)
    with pytest.raises(InputError, match=message):
        pruners["bad"].build(network(), 0.5, EVERYTHING)
