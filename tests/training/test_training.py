from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schedulefree
import torch
from torch import nn

from sgabench.errors import InputError
from sgabench.models.cifar_resnet import CifarResNet
from sgabench.optimizers.grouping import decay_weights_only
from sgabench.optimizers.sampled import Sampled
from sgabench.optimizers.stoch_grad_adam import StochGradAdam
from sgabench.optimizers.two_passes import CrAM
from sgabench.plugins import ImageSpec
from sgabench.store.files import Folder
from sgabench.suite.tables import Recipe
from sgabench.training.data import Data, Images
from sgabench.training.evaluation import evaluate
from sgabench.training.loop import Diverged, Training, train
from sgabench.training.progress import Progress
from sgabench.training.snapshot import Snapshots


def make_data(train: int = 96, test: int = 50, validation: int = 0) -> Data:
    """Images whose class is the brightness of a quarter: learnable, deterministic."""
    generator = torch.Generator().manual_seed(0)

    def images(number: int) -> Images:
        labels = torch.arange(number) % 4
        pixels = torch.randint(0, 100, (number, 1, 8, 8), generator=generator, dtype=torch.uint8)
        for label in range(4):
            row, column = divmod(label, 2)
            pixels[labels == label, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 100
        return Images(pixels, labels)

    mean, std = torch.tensor([0.3]).double(), torch.tensor([0.2]).double()
    return Data(ImageSpec(1, 8, 8, 4), images(train), images(validation), images(test), mean, std)


def make_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 4)
    )


def sgd(network: nn.Module, lr: float = 0.05) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)


def trained(recipe: Recipe, seed: int = 0, data: Data | None = None) -> nn.Module:
    network = make_network()
    train(network, sgd(network), data or make_data(), recipe, seed, precision="fp32")
    return network


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


RECIPE = Recipe(epochs=3, batch_size=32, augmentation=("crop", "flip"), crop_padding=1)


def test_a_network_learns() -> None:
    data = make_data()
    network = trained(Recipe(epochs=8, batch_size=16), data=data)
    top1, loss, _ = evaluate(network, data, data.test, "fp32")
    assert top1 > 0.95
    assert loss < 0.3


def test_the_same_seed_gives_the_same_bits() -> None:
    assert same(trained(RECIPE), trained(RECIPE))


def test_another_seed_gives_other_weights() -> None:
    assert not same(trained(RECIPE, seed=0), trained(RECIPE, seed=1))


def test_global_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    first = torch.Generator.get_state(torch.default_generator)
    network = make_network()
    torch.manual_seed(1)
    train(network, sgd(network), make_data(), RECIPE, 0, precision="fp32")
    assert torch.equal(torch.Generator.get_state(torch.default_generator), first)


def test_the_schedule_reaches_the_optimizer() -> None:
    network = make_network()
    optimizer = sgd(network, lr=0.5)
    recipe = Recipe(epochs=2, batch_size=32, schedule="cosine")
    training = train(network, optimizer, make_data(), recipe, 0, precision="fp32")
    assert [row["lr"] for row in training.history] == pytest.approx([0.375, 0.25 * (1 + math.cos(5 / 6 * math.pi))])


def test_history_has_a_row_per_epoch() -> None:
    network = make_network()
    training = train(network, sgd(network), make_data(validation=40), RECIPE, 0, precision="fp32")
    assert [row["epoch"] for row in training.history] == [1, 2, 3]
    assert training.history[-1]["loss"] < training.history[0]["loss"]
    assert all(0 <= row["validation_top1"] <= 1 for row in training.history)
    assert training.images == 3 * 96
    assert training.passes == 3 * 3
    assert all(row["seconds"] > 0 for row in training.history)
    assert training.seconds == pytest.approx(sum(row["seconds"] for row in training.history))


def test_without_a_validation_split_nothing_is_said_of_one() -> None:
    network = make_network()
    training = train(network, sgd(network), make_data(), RECIPE, 0, precision="fp32")
    assert set(training.history[0]) == {"epoch", "loss", "top1", "lr", "seconds"}


def test_the_test_split_has_no_part_in_training() -> None:
    data = make_data()
    other = make_data()
    other.test.images.fill_(255)
    assert same(trained(RECIPE, data=data), trained(RECIPE, data=other))


def test_top1_is_counted_over_batches_of_unequal_size() -> None:
    class FirstPixel(nn.Module):
        """Says class 0 for a dark first pixel, else class 1."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            bright = (images[:, 0, 0, 0] > 0).float()
            return torch.stack([1 - bright, bright, 0 * bright, 0 * bright], dim=1)

    images = torch.zeros(501, 1, 8, 8, dtype=torch.uint8)  # one more than a batch of the evaluation
    images[500] = 255
    split = Images(images, torch.tensor([0] * 300 + [1] * 201))
    top1, loss, _ = evaluate(FirstPixel(), make_data(), split, "fp32")
    assert top1 == 301 / 501
    right, wrong = -math.log(math.e / (math.e + 3)), -math.log(1 / (math.e + 3))
    assert loss == pytest.approx((301 * right + 200 * wrong) / 501, rel=1e-5)


def test_evaluation_changes_nothing() -> None:
    network, data = make_network(), make_data()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate(network, data, data.test, "fp32")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_loss_that_is_not_finite_is_divergence() -> None:
    network = make_network()
    with pytest.raises(Diverged, match="epoch 1"):
        train(network, sgd(network, lr=1e30), make_data(), RECIPE, 0, precision="fp32")


def test_a_batch_larger_than_the_training_split_is_refused() -> None:
    network = make_network()
    with pytest.raises(InputError, match=r"batch_size: 128 is larger than the training split \(96 images\)"):
        train(network, sgd(network), make_data(), Recipe(), 0, precision="fp32")


def test_weight_averaging_measures_the_average() -> None:
    average = trained(RECIPE.model_copy(update={"weight_averaging": "ema", "ema_decay": 0.5}))
    last = trained(RECIPE)
    assert not same(average, last)
    assert not average.training


@pytest.mark.parametrize("decay", [0.9, 0.95])
def test_weight_averaging_averages_weights_and_leaves_indices_alone(decay: float) -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return CifarResNet(8, 1, 4, shortcut="A", width=4)

    seen: list[dict[str, torch.Tensor]] = []
    averaged = network()

    def remember() -> None:
        seen.append({name: p.detach().double() for name, p in averaged.named_parameters()})

    recipe = RECIPE.model_copy(update={"weight_averaging": "ema", "ema_decay": decay})
    train(averaged, sgd(averaged, 0.01), make_data(), recipe, 0, precision="fp32", after_step=remember)
    expected = seen[0]
    for step in seen[1:]:
        expected = {name: decay * value + (1 - decay) * step[name] for name, value in expected.items()}
    for name, value in averaged.named_parameters():
        # Nine averages in float32, each rounded in two products and a sum of numbers below the largest weight.
        bound = 3 * len(seen) * 2**-24 * max(step[name].abs().max().item() for step in seen)
        assert (value.double() - expected[name]).abs().max() <= bound
    sources = {name: value for name, value in network().state_dict().items() if name.endswith("source")}
    assert sources
    assert all(torch.equal(averaged.state_dict()[name], value) for name, value in sources.items())


def test_weights_that_the_last_step_broke_are_divergence() -> None:
    network = make_network()
    steps: list[int] = []

    def break_at_the_end() -> None:
        steps.append(1)
        if len(steps) == 9:
            next(network.parameters()).data[0] = float("nan")

    with pytest.raises(Diverged, match="not finite"):
        train(network, sgd(network), make_data(), RECIPE, 0, precision="fp32", after_step=break_at_the_end)


def test_label_smoothing_raises_the_loss() -> None:
    def loss(smoothing: float) -> float:
        network = make_network()
        recipe = Recipe(epochs=8, batch_size=16, label_smoothing=smoothing)
        return train(network, sgd(network), make_data(), recipe, 0, precision="fp32").history[-1]["loss"]

    assert loss(0.3) > loss(0.0) + 0.3


def test_bf16_stays_close_to_fp32() -> None:
    network = make_network()
    training = train(network, sgd(network), make_data(), RECIPE, 0, precision="bf16")
    reference = make_network()
    expected = train(reference, sgd(reference), make_data(), RECIPE, 0, precision="fp32")
    assert training.history[0]["loss"] == pytest.approx(expected.history[0]["loss"], rel=0.05)
    assert all(value.dtype != torch.bfloat16 for value in network.state_dict().values())


def test_after_step_is_called_after_every_step() -> None:
    calls: list[int] = []
    network = make_network()
    train(network, sgd(network), make_data(), RECIPE, 0, precision="fp32", after_step=lambda: calls.append(1))
    assert len(calls) == 9


def test_progress_ends_at_the_end() -> None:
    seen: list[Progress] = []
    network = make_network()
    train(network, sgd(network), make_data(), RECIPE, 0, precision="fp32", on_progress=seen.append)
    assert (seen[-1].epoch, seen[-1].epochs, seen[-1].seconds_left) == (3, 3, 0)
    assert seen[-1].images_per_s > 0


class Stopped(Exception):
    pass


def dropping_network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(8 * 64, 4)
    )
    return network.to(memory_format=torch.channels_last)


def decaying_weights(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    decay_weights_only(optimizer)
    return optimizer


class DrawsElsewhere(torch.optim.SGD):
    """Draws from the generators of Python and of NumPy, as some optimizers of packages do."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["lr"] = 0.02 * (1 + random.gauss() ** 2 + np.random.random() + np.random.standard_normal() ** 2)
        return super().step(closure)


OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, amsgrad=True, fused=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True),
    "stochgradadam": lambda parameters: StochGradAdam(parameters, lr=0.01, seed=2**62 + 1),
    "stochgradadam, foreach": lambda parameters: StochGradAdam(
        parameters, lr=0.01, weight_decay=0.1, implementation="foreach"
    ),
    "sampled": lambda parameters: Sampled(torch.optim.NAdam(parameters, lr=0.01), sampling_rate=0.7, seed=3),
    "two groups": lambda parameters: decaying_weights(StochGradAdam(parameters, lr=0.01, weight_decay=0.1)),
    "sampled, two groups": lambda parameters: decaying_weights(
        Sampled(torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1))
    ),
    "matched, two groups": lambda parameters: decaying_weights(
        Sampled(torch.optim.Adam(parameters, lr=0.01, weight_decay=0.1, fused=True), step_norm="base")
    ),
    "cram, two groups": lambda parameters: decaying_weights(
        CrAM(torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1), rho=0.1, seed=4)
    ),
    "schedule-free": lambda parameters: schedulefree.AdamWScheduleFree(parameters, lr=0.01),
    "of other generators": lambda parameters: DrawsElsewhere(parameters, lr=0.05),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=3),
    "noisy update": lambda parameters: Sampled(
        torch.optim.SGD(parameters, lr=0.05), distribution="gaussian", mask="update"
    ),
}


@pytest.mark.parametrize("stop", [1, 3, 5, 6, 13, 17], ids="stopped after step {}".format)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_that_goes_on_from_a_snapshot_ends_with_the_same_bits(tmp_path: Path, name: str, stop: int) -> None:
    recipe = Recipe(
        epochs=3,
        batch_size=16,
        schedule="cosine",
        warmup_epochs=0.5,
        augmentation=("crop", "flip"),
        weight_averaging="ema",
        ema_decay=0.8,
    )

    def run(after_step: Callable[[], None], snapshots: Snapshots | None) -> tuple[nn.Module, Training]:
        random.seed(0)
        np.random.seed(0)
        network = dropping_network()
        optimizer = OPTIMIZERS[name](network.parameters())
        training = train(
            network,
            optimizer,
            make_data(validation=8),
            recipe,
            0,
            precision="fp32",
            after_step=after_step,
            snapshots=snapshots,
        )
        return network, training

    def snapshots() -> Snapshots:
        return Snapshots(Folder(tmp_path), "s.safetensors", {}, 1e-9)

    undisturbed, expected = run(lambda: None, None)
    steps = iter(range(1, 100))

    def stop_at() -> None:
        if next(steps) > stop and (tmp_path / "s.safetensors").exists():  # an exchange of weights is called a step, too
            raise Stopped

    with pytest.raises(Stopped):
        run(stop_at, snapshots())
    network, training = run(lambda: None, snapshots())
    assert same(network, undisturbed)
    assert training.interruptions == 1
    assert training.passes == expected.passes
    assert training.seconds > training.seconds_before > 0

    def numbers(rows: list[dict[str, float]]) -> list[dict[str, float]]:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    assert numbers(training.history) == numbers(expected.history)


def test_a_training_that_is_stopped_after_its_last_step_is_not_done_again(tmp_path: Path) -> None:
    def run(after_step: Callable[[], None] = lambda: None) -> nn.Module:
        network = dropping_network()
        snapshots = Snapshots(Folder(tmp_path), "s.safetensors", {}, 0)
        train(
            network,
            sgd(network),
            make_data(),
            Recipe(epochs=2, batch_size=16),
            0,
            precision="fp32",
            after_step=after_step,
            snapshots=snapshots,
        )
        return network

    def no_step() -> None:
        raise Stopped

    assert same(run(), run(no_step))
