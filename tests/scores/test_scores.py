"""Every built-in score against its formula in float64, written out here."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

from sgabench.errors import InputError
from sgabench.models.layers import prunable_weights
from sgabench.plugins import ImageSpec, PruningContext, scores

SPEC = ImageSpec(channels=3, height=6, width=6, classes=4)
LABELS = torch.tensor([0, 3, 1, 1, 2, 0, 2])


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 4),
        )
        nn.init.uniform_(made[1].running_var, 0.5, 1.5)
        nn.init.normal_(made[1].running_mean)
    return made.eval()


def images() -> Tensor:
    return torch.randn(7, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    yield images()[:4], LABELS[:4]
    yield images()[4:], LABELS[4:]


CONTEXT = PruningContext(SPEC, 0, batches, frozenset({"0"}))


def gradients(of: nn.Module, loss: Callable[[nn.Module], Tensor], **options: bool) -> dict[str, Tensor]:
    """Of the loss in float64, for the layers that are not excluded."""
    weights = prunable_weights(of, {"0"})
    found = torch.autograd.grad(loss(of), list(weights.values()), **options)
    return dict(zip(weights, found, strict=True))


def mean_loss(part: slice = slice(None)) -> Callable[[nn.Module], Tensor]:
    return lambda of: cross_entropy(of(images().double()[part]), LABELS[part])


def weights_of(of: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in prunable_weights(of, {"0"}).items()}


def expected_taylor(of: nn.Module) -> dict[str, Tensor]:
    first, second = (gradients(of, mean_loss(part)) for part in (slice(0, 4), slice(4, 7)))
    return {n: ((w * first[n]).abs() + (w * second[n]).abs()) / 2 for n, w in weights_of(of).items()}


def expected_snip(of: nn.Module) -> dict[str, Tensor]:
    found = gradients(of, mean_loss())
    products = {n: (w * found[n]).abs() for n, w in weights_of(of).items()}
    return {n: product / sum(p.sum() for p in products.values()) for n, product in products.items()}


def expected_grasp(of: nn.Module) -> dict[str, Tensor]:
    gradient = gradients(of, mean_loss())
    weights = prunable_weights(of, {"0"})

    def half_the_squared_norm(network: nn.Module) -> Tensor:
        found = torch.autograd.grad(mean_loss()(network), list(weights.values()), create_graph=True)
        return sum((part.square().sum() for part in found), torch.zeros(())) / 2

    product = gradients(of, half_the_squared_norm)  # the Hessian times the gradient
    assert product.keys() == gradient.keys()
    return {n: w * product[n] for n, w in weights_of(of).items()}


def expected_fisher(of: nn.Module) -> dict[str, Tensor]:
    single = [gradients(of, mean_loss(slice(i, i + 1))) for i in range(7)]
    return {n: w**2 / 2 * sum(each[n] ** 2 for each in single) / 7 for n, w in weights_of(of).items()}


def expected_synflow(of: nn.Module) -> dict[str, Tensor]:
    norm = of[1]
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).abs().view(1, -1, 1, 1)

    def flow(_: nn.Module) -> Tensor:
        x = conv2d(torch.ones(1, 3, 6, 6, dtype=torch.float64), of[0].weight.abs(), padding=1) * scale
        x = conv2d(x, of[3].weight.abs(), stride=2, groups=2)
        return (of[6].weight.abs() @ x.flatten()).sum()

    found = gradients(of, flow)
    return {n: w * found[n] for n, w in weights_of(of).items()}


def expected_wanda(of: nn.Module) -> dict[str, Tensor]:
    hidden = of[:3](images().double()).detach()  # what the second convolution reads
    into = torch.zeros(6, 2, 3, 3, dtype=torch.float64)
    for output in range(6):
        for channel in range(2):
            read = hidden[:, channel + 2 * (output // 3)]
            for row in range(3):
                for column in range(3):
                    into[output, channel, row, column] = read[:, row : row + 3 : 2, column : column + 3 : 2].norm()
    into_linear = of[:6](images().double()).detach().norm(dim=0)
    weights = weights_of(of)
    return {"3": weights["3"].abs() * into, "6": weights["6"].abs() * into_linear}


def expected_lamp(of: nn.Module) -> dict[str, Tensor]:
    def lamp(weight: Tensor) -> Tensor:
        values = weight.flatten().tolist()
        return torch.tensor([v**2 / math.fsum(u**2 for u in values if abs(u) >= abs(v)) for v in values])

    return {n: lamp(w).view(w.shape) for n, w in weights_of(of).items()}


FORMULAS: dict[str, Callable[[nn.Module], dict[str, Tensor]]] = {
    "magnitude": lambda of: {n: w.abs() for n, w in weights_of(of).items()},
    "taylor": expected_taylor,
    "snip": expected_snip,
    "grasp": expected_grasp,
    "fisher": expected_fisher,
    "synflow": expected_synflow,
    "wanda": expected_wanda,
    "lamp": expected_lamp,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_score_is_its_formula_and_leaves_the_network_as_it_was(name: str) -> None:
    dense = network()
    dense[3].weight.requires_grad_(False)  # frozen weights have scores, too
    before = copy.deepcopy(dense.state_dict())
    found = scores[name].build(dense, CONTEXT)
    expected = FORMULAS[name](network().double())
    assert list(found) == ["3", "6"]
    for layer, score in found.items():
        assert not score.requires_grad
        largest = float(expected[layer].abs().max())
        torch.testing.assert_close(score.double(), expected[layer].double(), rtol=1e-4, atol=1e-5 * largest)
    assert all(torch.equal(before[key], value) for key, value in dense.state_dict().items())
    assert [p.requires_grad for n, p in dense.named_parameters()] == [
        n != "3.weight" for n, _ in dense.named_parameters()
    ]
    assert all(parameter.grad is None for parameter in dense.parameters())
    assert not any(module.training or module._forward_hooks for module in dense.modules())


def test_every_score_has_a_formula_or_a_test_of_its_own() -> None:
    assert {score.name for score in scores.plugins()} == {*FORMULAS, "random", "movement"}


def test_movement_is_what_the_squares_of_weights_gained() -> None:
    dense, before = network(), network()
    with torch.no_grad():
        before[3].weight.mul_(2)
        before[6].weight.zero_()
    context = PruningContext(SPEC, 0, batches, frozenset(), initial=lambda: before)
    found = scores["movement"].build(dense, context)
    torch.testing.assert_close(found["3"], -3 * dense[3].weight.detach() ** 2)
    torch.testing.assert_close(found["6"], dense[6].weight.detach() ** 2)
    assert not found["0"].any()
    with pytest.raises(InputError, match="needs the weights from before the training"):
        scores["movement"].build(dense, CONTEXT)


def test_movement_is_the_sum_over_a_training_that_follows_the_gradient() -> None:
    target = torch.tensor([[1.0, -2.0, 0.3]], dtype=torch.float64)
    layer = nn.Linear(3, 1, bias=False).double()
    initial, rate = copy.deepcopy(layer), 1e-4
    moved = torch.zeros(1, 3, dtype=torch.float64)
    for _ in range(20_000):
        gradient = layer.weight.detach() - target
        moved -= layer.weight.detach() * gradient
        layer.weight.data -= rate * gradient
    found = scores["movement"].build(layer, PruningContext(SPEC, 0, batches, frozenset(), initial=lambda: initial))
    torch.testing.assert_close(found[""] / (2 * rate), moved, rtol=1e-3, atol=1e-2)


def test_random_scores_follow_from_the_seed_alone() -> None:
    dense, other = network(), network()
    with torch.no_grad():
        other[3].weight.mul_(3)
    first, second = (scores["random"].build(of, CONTEXT) for of in (dense, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(float(s.min()) >= 0 and float(s.max()) < 1 for s in first.values())


def test_fisher_stops_after_so_many_images() -> None:
    few = scores["fisher"].build(network(), CONTEXT, images=5)
    single = [gradients(network().double(), mean_loss(slice(i, i + 1))) for i in range(5)]
    expected = {
        n: w**2 / 2 * sum(each[n] ** 2 for each in single) / 5 for n, w in weights_of(network().double()).items()
    }
    for name, score in few.items():
        torch.testing.assert_close(score.double(), expected[name], rtol=1e-4, atol=1e-8)


def test_wanda_of_a_layer_that_is_used_twice_adds_up_what_it_reads() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))  # type: ignore[no-any-return]

    twice = Twice()
    x = torch.randn(5, 4)
    context = PruningContext(SPEC, 0, lambda: iter([(x, LABELS[:5])]), frozenset())
    found = scores["wanda"].build(twice, context)["layer"]
    weight = twice.layer.weight.detach()
    norms = (x.square().sum(0) + (x @ weight.T).square().sum(0)).sqrt()
    torch.testing.assert_close(found, weight.abs() * norms)


def test_wanda_knows_every_kind_of_layer() -> None:
    layers = nn.Sequential(nn.ConvTranspose2d(3, 4, 2, stride=2, groups=1), nn.Flatten(2), nn.Conv1d(4, 2, 3))
    x = images()
    found = scores["wanda"].build(layers, PruningContext(SPEC, 0, lambda: iter([(x, LABELS)]), frozenset()))
    weight = layers[0].weight.detach()
    norms = x.square().sum((0, 2, 3)).sqrt()  # each pixel meets each place of the kernel once
    torch.testing.assert_close(found["0"], weight.abs() * norms.view(3, 1, 1, 1))
    assert found["2"].shape == (2, 4, 3)
