"""What a training takes of memory is known before it begins, and what cannot fit is refused with the numbers."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import called_in_a_fork, variant
from torch import Tensor, nn

from sgabench.errors import InputError
from sgabench.plugins import ImageSpec, optimizers
from sgabench.suite.choices import Choice
from sgabench.suite.tables import Recipe
from sgabench.system.memory import available
from sgabench.training.building import build_optimizer
from sgabench.training.footprint import Footprint, Kept, kept_by, limited, measure, need

SPEC = ImageSpec(channels=1, height=8, width=8, classes=10)
MB = 10**6


class TwoLayers(nn.Module):
    """Of each image it keeps the image itself, 256 bytes, and what is positive of a thousand sums, 4000 bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 1000), nn.Linear(1000, 10)
        self.second.bias.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images.flatten(1)).relu()
        return self.second(hidden)  # type: ignore[no-any-return]


def test_what_is_kept_for_each_image_is_counted_once() -> None:
    weights = 4 * (65 * 1000 + 1001 * 10)
    matrices = 4 * (64**2 + 1000**2 + 1000**2 + 10**2)
    assert measure(TwoLayers(), SPEC) == Footprint(weights, weights - 40, fixed=0, image=4256, matrices=matrices)


def test_what_does_not_grow_with_the_batch_is_separated() -> None:
    class Normalized(nn.Module):
        """A weight that is made anew at every step, as large as ten images."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(10, 64))

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1).mul(2).requires_grad_() @ self.weight.exp().T

    assert measure(Normalized(), SPEC) == Footprint(2560, 2560, fixed=2560, image=256, matrices=4 * (10**2 + 64**2))


def test_what_the_result_does_not_depend_on_is_not_kept() -> None:
    class Wasteful(TwoLayers):
        def forward(self, images: Tensor) -> Tensor:
            for _ in range(10):
                (self.first(images.flatten(1)) * 1.5).sigmoid()
            return super().forward(images)

    assert measure(Wasteful(), SPEC).image == 4256


def test_measuring_draws_nothing_from_the_global_generator() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10))
    before = torch.get_rng_state()
    measure(network, SPEC)
    assert torch.equal(torch.get_rng_state(), before)


STATES: list[tuple[str, dict[str, Any]]] = [
    ("adam", {}),
    ("adam", {"amsgrad": True}),
    ("adamw", {}),
    ("sgd", {}),
    ("sgd", {"momentum": 0.0}),
    ("stochgradadam", {}),
    ("torch:Adadelta", {}),
    ("torch:Adagrad", {}),
    ("torch:Adamax", {}),
    ("torch:AdamW", {"amsgrad": True}),
    ("torch:ASGD", {}),
    ("torch:Muon", {}),
    ("torch:NAdam", {}),
    ("torch:RAdam", {}),
    ("torch:RMSprop", {}),
    ("torch:RMSprop", {"momentum": 0.9, "centered": True}),
    ("torch:Rprop", {}),
    ("torch:SGD", {"momentum": 0.9}),
    ("sampled:SGD", {"momentum": 0.9}),
    ("noisy:Adam", {"sampling_rate": 0.5}),
]


@pytest.mark.parametrize(("name", "options"), STATES, ids=str)
def test_the_state_of_an_optimizer_is_what_it_is_after_a_step(name: str, options: dict[str, Any]) -> None:
    chosen = Choice(name, name, optimizers[name].resolve(options))
    layer = nn.Linear(64, 64, bias=False)
    built = build_optimizer(chosen, layer, 0)
    layer.weight.grad = torch.ones_like(layer.weight)
    built.step()
    tensors = [value for value in built.state[layer.weight].values() if isinstance(value, Tensor)]
    assert kept_by(chosen, 1) == Kept(sum(tensor.numel() for tensor in tensors) // layer.weight.numel())
    assert kept_by(replace(chosen, code="a plugin's"), 1) == Kept()


@pytest.mark.parametrize(("name", "options"), [("soap", {}), ("shampoo", {}), ("lbfgs", {"history_size": 3})], ids=str)
@pytest.mark.parametrize("steps", [1, 3])
def test_large_states_are_counted(name: str, options: dict[str, Any], steps: int) -> None:
    chosen = Choice(f"pytorch_optimizer:{name}", name, optimizers[f"pytorch_optimizer:{name}"].resolve(options))
    if name == "lbfgs":
        chosen = replace(chosen, name="torch:LBFGS", options={**options, "max_iter": 4})
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16, bias=False), nn.Linear(16, 10, bias=False))
    built = build_optimizer(chosen, network, 0)
    images, labels = torch.randn(8, 1, 8, 8), torch.arange(8)

    def loss() -> Tensor:
        network.zero_grad()
        found = nn.functional.cross_entropy(network(images), labels)
        found.backward()
        return found

    for _ in range(steps):
        loss()
        built.step(loss)
    counted = need(measure(network, ImageSpec(1, 8, 8, 10)), Recipe(), kept_by(chosen, steps), "cpu").state
    assert 0.9 * _bytes(built.state) <= counted <= _bytes(built.state)


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_bytes, parts))


@pytest.mark.parametrize("name", ["sam:SGD", "cram:SGD"])
def test_two_passes_keep_weights_and_gradients(name: str) -> None:
    options = optimizers[name].resolve({"momentum": 0.9})
    assert kept_by(Choice(name, name, options), 10) == Kept(1, copies=2)
    found = need(Footprint(10 * MB, 8 * MB, 2 * MB, MB), Recipe(batch_size=100), Kept(1, copies=2), "cpu")
    assert found.total == (10 + 8 + 8 + 16 + 102) * MB
    assert str(found) == "weights 10 MB, gradients 8 MB, state 8 MB, copies 16 MB, activations 102 MB"
    at_rest = need(Footprint(10 * MB, 8 * MB, 2 * MB, MB), Recipe(batch_size=2), Kept(1, copies=2), "cpu")
    assert str(at_rest).endswith("state 8 MB, snapshot 36 MB")


def test_a_matched_step_norm_takes_a_second_state_and_the_weights() -> None:
    options = optimizers["sampled:Adam"].resolve({"step_norm": "base"})
    assert kept_by(Choice("sampled:Adam", "x", options), 1) == Kept(2 * 2 + 1)


def test_the_parts_of_a_training() -> None:
    footprint = Footprint(weights=10 * MB, trained=8 * MB, fixed=2 * MB, image=MB)
    found = need(footprint, Recipe(batch_size=100), Kept(2), "cpu")
    assert (found.weights, found.gradients, found.state, found.activations) == (10 * MB, 8 * MB, 16 * MB, 102 * MB)
    assert found.snapshot == 2 * (10 + 16) * MB
    assert found.total == (10 + 8 + 16 + 102) * MB
    assert str(found) == "weights 10 MB, gradients 8 MB, state 16 MB, activations 102 MB"
    averaged = need(footprint, Recipe(batch_size=10, weight_averaging="ema"), Kept(2), "cpu", half=True)
    assert (averaged.weights, averaged.activations) == (20 * MB, 6 * MB)
    assert averaged.total == (20 + 8 + 16) * MB + 2 * (20 + 16) * MB
    assert str(averaged).endswith("snapshot 72 MB")
    on_a_gpu = need(footprint, Recipe(batch_size=100), Kept(2), "cuda")
    assert (on_a_gpu.activations, on_a_gpu.snapshot) == (52 * MB, 0)


def test_a_network_of_more_parameters_than_there_is_memory_is_stopped_while_it_grows() -> None:
    made = []

    def grow(workers: int) -> None:
        with limited(workers):
            for width in range(100, 1000, 100):
                made.append(nn.Linear(width, width))

    with pytest.raises(InputError, match=r"^has parameters of .* or more; .* are available for each of 1000000 "):
        grow(1_000_000)
    assert len(made) < 5
    grow(1)


def test_weights_that_are_shared_or_replaced_are_counted_once() -> None:
    left = available(1)
    assert left is not None
    workers = left // 1_500_000  # 1.5 MB for each
    with limited(workers):
        first, second = nn.Linear(250, 1000, bias=False), nn.Linear(1, 1)  # 1 MB
        second.weight = first.weight
        first.weight = nn.Parameter(torch.zeros(1))
        second.weight = nn.Parameter(torch.zeros(1))
        second.weight = nn.Parameter(torch.zeros(250, 1000))
        nn.Linear(10_000, 10_000, device="meta")


def limited_run(tmp_path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line with an address space of 6 GB, most of which libraries take."""
    return called_in_a_fork(tmp_path, ["run", *map(str, arguments)], {}, 6 * 10**9)


def test_a_batch_that_does_not_fit_is_refused_with_the_numbers(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "wide.py").write_text(
        "from torch import nn\nfrom sgabench.plugins import models\n"
        "@models.register('wide')\n"
        "def wide(spec):\n"
        "    inflated = [nn.Conv2d(1, 8, 1), nn.Upsample(scale_factor=64), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]\n"
        "    return nn.Sequential(*inflated, nn.Flatten(), nn.Linear(8, 10))\n"
    )
    variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "wide"')
    variant(tiny, "train_size = 256", "")
    done = limited_run(tmp_path, tiny, "--plugin", "wide.py", "--set", "training.batch_size=1437")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: model 'wide': training with optimizer 'adam' at batch size 1437 (weights 0 MB, "
    )
    assert "activations 12.1 GB) needs about 12.1 GB of memory; " in done.stderr
    assert done.stderr.endswith(" are available\n")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("layers", "width"), [(10**6, 5000), (1, 10**6)], ids=["many", "one"])
def test_parameters_that_do_not_fit_are_refused(tiny: Path, tmp_path: Path, layers: int, width: int) -> None:
    (tmp_path / "growing.py").write_text(
        "import torch\nfrom torch import nn\nfrom sgabench.plugins import models\n"
        "@models.register('growing')\n"
        "def growing(spec):\n"
        f"    return nn.ParameterList(nn.Parameter(torch.empty({width}, {width})) for _ in range({layers}))\n"
    )
    variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "growing"')
    done = limited_run(tmp_path, tiny, "--plugin", "growing.py")
    assert done.returncode == 2, done.stdout
    assert "error: model 'growing': has parameters of " in done.stderr
    assert " are available" in done.stderr
    assert done.stderr.count("\n") == 1
