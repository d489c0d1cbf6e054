"""Importances of torch-pruning, on groups of ours: its own numbers, where it has its own groups, too."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sgabench.errors import InputError
from sgabench.models.cifar_resnet import CifarResNet
from sgabench.plugins import ImageSpec, PruningContext, pruners
from sgabench.pruners.channels.named import ranking_of
from sgabench.pruners.channels.structure import Structure, find_structure
from sgabench.pruners.importances import TAKEN

SPEC = ImageSpec(channels=3, height=8, width=8, classes=5)
LABELS = torch.tensor([0, 3, 1, 2])
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet8": lambda: CifarResNet(8, 3, 5, "B", 8),
    "vgg": lambda: vgg(8, 16, 16),
    "mlp": lambda: mlp(),
}


def vgg(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, width in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], 5))


def mlp() -> nn.Module:
    layers = [nn.Linear(192, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 5)]
    return nn.Sequential(nn.Flatten(), *layers)


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    yield images(), LABELS


CONTEXT = PruningContext(SPEC, 0, batches, frozenset())


def made(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name]()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


def classifier(network: nn.Module) -> str:
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]


def found(network: nn.Module) -> Structure:
    """Its channels."""
    return find_structure(network, images(1), {classifier(network)})


def of_torch_pruning(name: str, network: nn.Module, units: Iterable[str], **options: Any) -> dict[str, Tensor]:
    """What torch-pruning says of the channels of layers, as its documentation does it."""
    importance = getattr(torch_pruning.importance, name)(**options)
    graph = torch_pruning.DependencyGraph().build_dependency(network, images(1), verbose=False)
    groups = {unit: whole_group(graph, network.get_submodule(unit)) for unit in units}
    if "Taylor" in name:
        cross_entropy(network(images()), LABELS).backward()
    elif "Hessian" in name:  # of one image: its accumulate_grad keeps the last
        cross_entropy(network(images()[:1]), LABELS[:1]).backward()
        importance.accumulate_grad(network)
    elif name == "OBDCImportance":
        importance.modules = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        for module in importance.modules:
            module.register_forward_pre_hook(importance._save_input)
            module.register_full_backward_hook(importance._save_grad_output)
        cross_entropy(network(images()), LABELS).backward()
        importance.step()
    elif name == "ActivationImportance":
        with importance.compute_importance(network), torch.no_grad():
            network(images())
    return {unit: importance(group).detach().double() for unit, group in groups.items()}


def whole_group(graph: Any, layer: Any) -> Any:
    if isinstance(layer, nn.Linear):
        return graph.get_pruning_group(layer, torch_pruning.prune_linear_out_channels, [*range(layer.out_features)])
    return graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, [*range(layer.out_channels)])


# Not of Random, nor of those that are other names of Group...
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", [name for name in TAKEN if name != "RandomImportance" and f"Group{name}" not in TAKEN])
@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_scores_are_those_of_torch_pruning(name: str, network: str) -> None:
    dense, options = made(network), {"images": 1} if "Hessian" in name else {}
    if name == "BNScaleImportance" and network == "mlp":
        with pytest.raises(InputError, match="gives no score for any channel of Sequential; choose another importance"):
            ranking_of(name, options, CONTEXT)(dense, found(dense))
        return
    if name == "OBDCImportance":  # whose own Fisher information does not fit layers with biases
        for module in dense.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.bias = None
    scores = ranking_of(name, options, CONTEXT)(copy.deepcopy(dense), found(dense))
    assert scores
    expected = of_torch_pruning(name, copy.deepcopy(dense), scores)
    for unit, own in scores.items():
        # its scores of a group are as many as its first layer has features: of maps that are flattened, too many
        torch.testing.assert_close(own, expected[unit][: len(own)], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TAKEN)
def test_channels_go_and_nothing_is_left_behind(name: str) -> None:
    dense = made("vgg")
    before = {key: value.clone() for key, value in dense.state_dict().items()}
    passes = 0

    def counted() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal passes
        passes += 1
        return batches()

    once: dict[str, Any] = {}
    context = replace(
        CONTEXT,
        batches=counted,
        excluded=frozenset({classifier(dense)}),
        once=lambda key, make: once[key] if key in once else once.setdefault(key, make()),
    )
    kept = []
    for ratio in (0.3, 0.6):
        pruned = pruners[f"tp:{name}"].build(copy.deepcopy(dense), ratio, context, scope="layer", of="params")
        sizes = [sum(p.numel() for p in network.parameters()) for network in (dense, pruned)]
        assert sizes[1] / sizes[0] == pytest.approx(1 - ratio, abs=0.05)
        assert not any(hasattr(module, "_importance") for module in pruned.modules())
        assert all(p.grad is None and p.requires_grad for p in pruned.parameters())
        assert pruned(images()).isfinite().all()
        kept.append(passes)
    assert kept[1] - kept[0] <= 1, "a further ratio looks at images for its proof alone"
    again = pruners[f"tp:{name}"].build(copy.deepcopy(dense), 0.6, replace(context, once=CONTEXT.once), scope="layer")
    assert all(torch.equal(a, b) for a, b in zip(pruned.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(value, before[key]) for key, value in dense.state_dict().items())


def test_options_are_those_of_the_class() -> None:
    dense = made("resnet8")
    for options in ({"p": 1}, {"normalizer": "none"}, {"group_reduction": "first"}):
        scores = ranking_of("GroupMagnitudeImportance", options, CONTEXT)(dense, found(dense))
        given: Any = {key: None if value == "none" else value for key, value in options.items()}
        expected = of_torch_pruning("GroupMagnitudeImportance", dense, scores, **given)
        for unit, own in scores.items():
            torch.testing.assert_close(own, expected[unit], rtol=1e-5, atol=1e-7)


def test_layers_with_groups_and_biases_have_damage() -> None:
    layers = [nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 16, 2, groups=2), nn.Flatten(), nn.Linear(16 * 81, 5)]
    network = nn.Sequential(*layers).eval()
    pruned = pruners["tp:OBDCImportance"].build(network, 0.5, replace(CONTEXT, excluded=frozenset({"0", "3"})))
    assert pruned[1].out_channels < 16


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Taylor", {}, "unknown importance 'Taylor' of torch-pruning; valid: .*TaylorImportance"),
        ("TaylorImportance", {"p": 2}, "p: 'tp:TaylorImportance' does not take it; valid: group_reduction, normalizer"),
        ("RandomImportance", {"bias": True}, "bias: 'tp:RandomImportance' does not take it; it has no options"),
    ],
)
def test_what_cannot_be_is_an_answer(name: str, options: dict[str, Any], message: str) -> None:
    plugin = pruners[f"tp:{name}"]
    with pytest.raises(InputError, match=message):
        plugin.check_use(plugin.resolve(options), {})
    with pytest.raises(InputError, match=message):
        plugin.build(made("resnet8"), 0.5, CONTEXT, **options)


@pytest.mark.parametrize("name", ["TaylorImportance", "HessianImportance", "OBDCImportance", "ActivationImportance"])
def test_images_are_asked_for_where_there_are_none(name: str) -> None:
    dense = made("resnet8")
    with pytest.raises(InputError, match="needs images of the training split, and there are none"):
        ranking_of(name, {}, replace(CONTEXT, batches=lambda: iter(())))(dense, found(dense))


def test_what_the_class_does_not_know_is_one_line() -> None:
    layers = [nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 16, 2, groups=2), nn.Flatten(), nn.Linear(16 * 81, 5)]
    with pytest.raises(InputError, match="'tp:TaylorImportance' cannot rank the channels of Sequential: IndexError"):
        pruners["tp:TaylorImportance"].build(
            nn.Sequential(*layers).eval(), 0.5, replace(CONTEXT, excluded=frozenset({"0", "3"}))
        )
