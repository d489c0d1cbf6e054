"""What ratios share: copies, counts and what a pruner makes once, without a number being another one."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from sgabench.errors import InputError
from sgabench.measuring import sweep as module
from sgabench.measuring.measurement import measure_size
from sgabench.measuring.sweep import Sweep, alike, copied, example_of
from sgabench.models.cifar_resnet import CifarResNet
from sgabench.models.statistics import reestimate_batch_norm
from sgabench.plugins import ImageSpec, PruningContext, pruners
from sgabench.training.data import Data, Images
from sgabench.training.evaluation import evaluate

SPEC = ImageSpec(channels=3, height=8, width=8, classes=5)


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return CifarResNet(8, 3, 5, "A", 4).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def vit() -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", img_size=8, patch_size=4, depth=1, embed_dim=12, num_classes=5
    )
    return network.eval()


class Sliced(nn.Module):
    """Multiplies by a part of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(192, 10)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.layer.weight[:5].T


@pytest.fixture
def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (701, 3, 8, 8), generator=generator, dtype=torch.uint8)
    split = Images(images, torch.randint(0, 5, (701,), generator=generator))
    mean = torch.full((3,), 0.5, dtype=torch.float64)
    return Data(SPEC, split, Images(images[:0], split.labels[:0]), split, mean, mean)


@pytest.fixture
def make(data: Data) -> Iterator[Callable[[nn.Module], Sweep]]:
    context = PruningContext(SPEC, 0, lambda: iter(()), frozenset())
    with ThreadPoolExecutor(2) as threads:
        yield lambda network: Sweep(network, data, "fp32", context, threads)


@pytest.mark.parametrize("network", [resnet, vit, Sliced])
def test_sizes_are_those_of_a_network_measured_alone(
    network: Callable[[], nn.Module], make: Callable[[nn.Module], Sweep], data: Data
) -> None:
    dense = network()
    before = copy.deepcopy(dense.state_dict())
    sweep = make(dense)
    excluded = sweep.excluded(False, True)
    for name, ratio in (("magnitude", 0.3), ("random", 0.9), ("magnitude", 0.9)):
        pruned = sweep.prune(name, {"scope": "global", "of": "weights"}, ratio, excluded)
        size = sweep.begin_size(pruned, excluded).result()
        assert size == measure_size(copy.deepcopy(pruned), example_of(data), excluded)
        assert size.nonzero_macs < size.macs
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())


def test_a_network_of_another_shape_is_counted_by_running_it(make: Callable[[nn.Module], Sweep], data: Data) -> None:
    sweep = make(resnet())
    excluded = sweep.excluded(False, False)
    pruned = sweep.prune("structured", {"scope": "global", "of": "params"}, 0.5, excluded)
    size = sweep.begin_size(pruned, excluded).result()
    assert size == measure_size(pruned, example_of(data), excluded)
    assert size.macs < measure_size(sweep.dense, example_of(data)).macs


def test_the_ends_of_a_network_are_left_alone_unless_they_are_included(make: Callable[[nn.Module], Sweep]) -> None:
    sweep = make(resnet())
    assert sweep.excluded(False, False) == {"conv1", "fc"}
    assert sweep.excluded(True, False) == {"fc"}
    assert sweep.excluded(True, True) == frozenset()


@pytest.mark.parametrize("kept", [0, 2**28])
def test_the_test_split_is_evaluated_alike_whether_it_is_kept_or_not(
    kept: int, make: Callable[[nn.Module], Sweep], data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", kept)
    sweep = make(resnet())
    for _ in range(2):
        assert sweep.evaluate(sweep.dense) == evaluate(sweep.dense, data, data.test, "fp32")


def test_a_pruner_makes_once_what_its_ratios_share(make: Callable[[nn.Module], Sweep]) -> None:
    made: list[tuple[Any, ...]] = []

    @pruners.register("remembering")
    def remembering(network: nn.Module, ratio: float, context: PruningContext, *, p: int = 1) -> nn.Module:
        """Write down what is made, for what."""
        context.once("a", lambda: made.append((p, ratio, context.excluded)))
        assert context.once("b", lambda: p) == p
        return network

    sweep = make(resnet())
    for p, ratio, excluded in [(1, 0.1, {"fc"}), (1, 0.5, {"fc"}), (2, 0.5, {"fc"}), (2, 0.6, set()), (1, 0.7, {"fc"})]:
        sweep.prune("remembering", {"p": p}, ratio, frozenset(excluded))
    assert [(p, ratio) for p, ratio, _ in made] == [(1, 0.1), (2, 0.5), (2, 0.6), (1, 0.7)]


def test_copies_have_nothing_in_common_with_the_network() -> None:
    network = resnet()
    called: list[str] = []
    network.register_forward_hook(lambda *_: called.append("network"))
    before = copy.deepcopy(network.state_dict())
    twin = copied(network)
    assert alike(twin, network)
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
    assert all(a.stride() == b.stride() for a, b in zip(twin.parameters(), network.parameters(), strict=True))
    with torch.no_grad():
        for value in twin.state_dict().values():
            value.zero_()
    twin.get_submodule("conv1").register_forward_hook(lambda *_: called.append("twin"))
    network(torch.zeros(1, 3, 8, 8))
    assert called == ["network"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_is_shared_in_a_network_is_shared_in_its_copy() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Module(), nn.Module())
    network[1].weight = network[0].weight
    row = torch.arange(6.0)
    for part, buffer in ((network[2], row), (network[3], row[:3])):
        part.register_buffer("row", buffer)
    network[2].register_buffer("wide", torch.ones(1).expand(5))
    twin = copied(network)
    assert twin.get_parameter("1.weight") is twin.get_parameter("0.weight")
    twin.get_buffer("2.row")[0] = 7
    assert twin.get_buffer("3.row").tolist() == [7, 1, 2]
    assert row[0] == 0
    assert twin.get_buffer("2.wide").stride() == (0,)


def tie(network: nn.Module) -> None:
    network.layer1[0].conv2.weight = network.layer1[0].conv1.weight  # type: ignore[index, union-attr]


def widen(network: nn.Module) -> None:
    network.fc = nn.Linear(16, 6)


def other_stride(network: nn.Module) -> None:
    network.layer1[0].conv1.stride = (2, 2)  # type: ignore[index, union-attr]


def other_layer(network: nn.Module) -> None:
    network.bn1 = nn.Identity()


def new_part(network: nn.Module) -> None:
    network.scale = torch.ones(3)


def other_precision(network: nn.Module) -> None:
    network.double()


def partial_function(network: nn.Module) -> None:
    network.function = functools.partial(torch.add, 1)


CHANGES = [tie, widen, other_stride, other_layer, new_part, other_precision, partial_function]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_may_run_otherwise_is_not_alike(change: Callable[[nn.Module], None]) -> None:
    network, other = resnet(), resnet()
    assert alike(network, other)
    change(network)
    assert not alike(network, other)
    change(other)
    if change in (new_part, partial_function):  # tensors and partial functions are not equal or different as a whole
        assert not alike(network, other)
    elif change is not other_layer:
        assert alike(network, other)


def test_other_values_are_alike() -> None:
    network, other = resnet(), resnet()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(parameter > 0)
    reestimate_batch_norm(network, [(torch.randn(4, 3, 8, 8), None)])
    assert alike(network, other)


def test_a_network_of_which_nothing_can_be_pruned_is_refused_not_praised(make: Callable[[nn.Module], Sweep]) -> None:
    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.last = nn.Parameter(torch.ones(24, 8)), nn.Linear(8, 5)

        def forward(self, images: Tensor) -> Tensor:
            return self.last(images.transpose(1, 2).flatten(2)[:, -1] @ self.matrix)  # type: ignore[no-any-return]

    sweep = make(Raw().eval())
    excluded = sweep.excluded(False, False)
    message = (
        "nothing was pruned: there are no weights that pruners act on but last, which include_input and "
        "include_classifier would include"
    )
    for name in ("magnitude", "random"):
        with pytest.raises(InputError) as caught:
            sweep.prune(name, {}, 0.5, excluded)
        assert str(caught.value) == message
    assert sweep.prune("magnitude", {}, 0.0, excluded) is not None
    pruned = sweep.prune("magnitude", {}, 0.5, frozenset())
    assert int((pruned.last.weight == 0).sum()) == 20  # type: ignore[union-attr, operator, arg-type]

    @pruners.register("raw")
    def raw(network: nn.Module) -> nn.Module:
        """Prune what sgabench does not count."""
        network.matrix.data.zero_()  # type: ignore[union-attr, operator]
        return network

    assert sweep.prune("raw", {}, 0.5, excluded) is not None
