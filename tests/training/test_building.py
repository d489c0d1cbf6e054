from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sgabench.models.cifar_resnet import CifarResNet
from sgabench.plugins import ImageSpec, TrainingContext, models, optimizers
from sgabench.suite.choices import Choice
from sgabench.suite.tables import Recipe
from sgabench.training.building import build_optimizer, initial_network, seeded

NETWORK = CifarResNet(8, 1, 10, width=4)


def chosen(decay: Any, name: str = "stochgradadam") -> Choice:
    options = optimizers[name].resolve({"lr": 0.01, "weight_decay": 0.1})
    return Choice(name, name, options, settings={"training": Recipe(decay=decay).effective()})


def test_all_is_one_group_and_enters_no_key() -> None:
    (group,) = build_optimizer(chosen("all"), NETWORK, 0).param_groups
    assert group["weight_decay"] == 0.1
    assert "positions" not in group
    assert "decay" not in chosen("all").identity()["training"]


@pytest.mark.parametrize("name", ["stochgradadam", "sgd", "sampled:SGD", "prox:SGD", "torch:AdamW"])
def test_weights_alone_decay_if_the_recipe_says_so(name: str) -> None:
    optimizer = build_optimizer(chosen("weights", name), NETWORK, 0)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for module in NETWORK.modules():
        for parameter in module.parameters(recurse=False):
            assert decays[id(parameter)] == (
                0.1 if isinstance(module, nn.Conv2d | nn.Linear) and parameter.ndim > 1 else 0
            )


def test_an_optimizer_learns_the_length_of_its_training() -> None:
    received: list[Any] = []

    @optimizers.register("curious")
    def curious(parameters: list[tuple[str, Any]], seed: int, context: TrainingContext) -> torch.optim.Optimizer:
        received.extend([seed, context])
        return torch.optim.SGD(parameters)

    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2)), nn.Linear(3, 4, bias=False))
    build_optimizer(Choice("curious", "curious", {}), network, 7, steps_per_epoch=5, epochs=3)
    kinds = {"0.weight": "Conv2d", "0.bias": "Conv2d", "2.weight": "Linear"}
    kinds |= {"1.0.weight": "BatchNorm2d", "1.0.bias": "BatchNorm2d"}
    assert received == [7, TrainingContext(15, 5, kinds)]


def test_every_global_generator_follows_from_the_seed_and_is_left_as_it_was() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), np.random.random(), float(torch.rand(()))

    found = []
    for _ in range(2):
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        with seeded(2**62 + 1):
            found.append(drawn())
        assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
        drawn()
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_model_of_torchscript_is_refused() -> None:
    @models.register("scripted")
    def scripted(spec: ImageSpec) -> nn.Module:
        return nn.Sequential(nn.Flatten(), torch.jit.script(nn.Linear(64, 10)))

    with pytest.raises(TypeError, match=r"'scripted' has a TorchScript module, .* build the torch\.nn\.Module"):
        initial_network(Choice("scripted", "scripted", {}, settings={}), ImageSpec(1, 8, 8, 10), 0)
