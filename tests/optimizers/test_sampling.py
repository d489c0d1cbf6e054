"""Which factor each parameter gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sgabench.optimizers import mask
from sgabench.optimizers.sampling import check_sampling, draw


def group(*shapes: tuple[int, ...], **options: Any) -> dict[str, Any]:
    parameters = [torch.zeros(shape, requires_grad=True) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    defaults = {"sampling_rate": 0.5, "seed": 3, "sampling_step": 0, "rescale": False, "exclude": ()}
    return {"params": parameters, **defaults, **options}


def factors(*groups: dict[str, Any], distribution: str = "bernoulli") -> list[Tensor | None]:
    """Of every parameter that has a gradient, in the order of the parameters."""
    drawn = {id(d.parameter): d.factor for d in draw(list(groups), "Test", distribution)}
    return [drawn[id(p)] for group in groups for p in group["params"] if p.grad is not None]


def test_positions_count_the_elements_in_the_order_of_the_parameters() -> None:
    drawn = factors(group((4, 5), (7,)), group((3, 2, 2)))
    expected = mask.bernoulli(3, 1, 0, 39, 0.5)
    parts = [expected[:20].view(4, 5), expected[20:27], expected[27:].view(3, 2, 2)]
    for got, part in zip(drawn, parts, strict=True):
        assert got is not None
        assert torch.equal(got, part)


@pytest.mark.parametrize("elements", [10, 100_000, 1_500_000])
def test_a_parameter_without_gradient_changes_no_other_mask(elements: int) -> None:
    complete = group((50,), (elements,), (60,))
    gapped = group((50,), (elements,), (60,))
    gapped["params"][1].grad = None
    first, _, third = factors(complete)
    without = factors(gapped)
    assert len(without) == 2
    assert torch.equal(without[0], first)
    assert torch.equal(without[1], third)


def test_excluded_parameters_have_no_factor_and_change_no_other_mask() -> None:
    names = ["conv.weight", "bn.weight", "fc.weight"]
    first, _, third = factors(group((50,), (8,), (60,), param_names=names))
    conv, bn, fc = factors(group((50,), (8,), (60,), param_names=names, exclude=("*bn*",)))
    assert bn is None
    assert torch.equal(conv, first)
    assert torch.equal(fc, third)


def test_masks_change_with_every_draw_and_the_draws_are_counted() -> None:
    one = group((1000,))
    first, second = factors(one)[0], factors(one)[0]
    assert one["sampling_step"] == 2
    assert first is not None
    assert not torch.equal(first, second)


def test_memory_layout_does_not_matter() -> None:
    one = group((8, 4, 3, 3))
    other = group((8, 4, 3, 3))
    other["params"][0] = torch.zeros(8, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    other["params"][0].grad = torch.ones(8, 4, 3, 3)
    assert torch.equal(factors(one)[0], factors(other)[0])


def test_rate_one_draws_nothing() -> None:
    assert factors(group((5,), sampling_rate=1.0)) == [None]


def test_rescaling_divides_by_the_rate() -> None:
    plain, rescaled = factors(group((1000,))), factors(group((1000,), rescale=True))
    assert plain[0] is not None
    assert torch.equal(rescaled[0], plain[0] / 0.5)


def test_gaussian_factors_have_mean_and_variance_of_the_mask() -> None:
    rate, n = 0.8, 400_000
    (drawn,) = factors(group((n,), sampling_rate=rate), distribution="gaussian")
    assert drawn is not None
    assert float(drawn.mean()) == pytest.approx(rate, abs=5 * 0.4 / n**0.5)
    assert float(drawn.var()) == pytest.approx(rate * (1 - rate), rel=0.02)
    torch.testing.assert_close(drawn, rate + 0.4 * mask.normal(3, 1, 0, n))


def test_sparse_gradients_are_refused_before_anything_is_counted() -> None:
    one = group((5,))
    one["params"][0].grad = torch.ones(5).to_sparse()
    with pytest.raises(RuntimeError, match="Test does not support sparse gradients"):
        factors(one)
    assert one["sampling_step"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling_rate": 0.0}, "sampling_rate"),
        ({"sampling_rate": 1.1}, "sampling_rate"),
        ({"sampling_rate": float("nan")}, "sampling_rate"),
        ({"exclude": "*bn*"}, "list of name patterns"),
        ({"exclude": ("*bn*",)}, "named_parameters"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_sampling(group((5,), **options))
