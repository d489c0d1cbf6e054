"""What is known of scores and schedules; the suite `orderings` shows it on five seeds."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from sgabench.models.layers import prunable_weights
from sgabench.plugins import ImageSpec, PruningContext, models, pruners
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite
from sgabench.training.building import load_data, train_network, untrained_network
from sgabench.training.data import batches
from sgabench.training.evaluation import evaluate
from sgabench.training.schedules import ratio_of_step

ENDS = frozenset({"conv1", "fc"})
SPEC = ImageSpec(channels=1, height=8, width=8, classes=10)


def layers_without_weights(network: nn.Module) -> int:
    return sum(not bool(weight.any()) for weight in prunable_weights(network, ENDS).values())


def test_synflow_in_steps_keeps_every_layer_alive() -> None:
    ratio = 0.998
    context = PruningContext(SPEC, 0, lambda: iter(()), ENDS)
    torch.manual_seed(0)
    network = models["resnet8"].build(SPEC)
    at_once = copy.deepcopy(network)
    pruners["synflow"].build(at_once, ratio, context)
    for step in range(1, 41):
        pruners["synflow"].build(network, ratio_of_step(ratio, step, 40), context)
    assert layers_without_weights(at_once) > 0
    assert layers_without_weights(network) == 0


def test_random_is_far_below_every_score_of_trained_weights(tmp_path: Path) -> None:
    suite = load_suite("orderings", ["training.epochs=4", "models.resnet8.width=8", "datasets.digits.train_size=640"])
    trial = make_plan(suite, tmp_path).trials[0]
    data = load_data(trial.dataset, tmp_path, False, "cpu")
    network = untrained_network(trial, data)
    train_network(network, trial, data, "fp32", lambda progress: None)
    context = PruningContext(data.spec, 0, lambda: batches(data, data.train, 64), ENDS)

    def accuracy(score: str) -> float:
        pruned = pruners[score].build(copy.deepcopy(network), 0.3, context)
        return evaluate(pruned, data, data.test, "fp32")[0]

    assert evaluate(network, data, data.test, "fp32")[0] > 0.85
    found = {score: accuracy(score) for score in ("magnitude", "taylor", "fisher", "wanda", "lamp")}
    assert min(found.values()) > accuracy("random") + 0.2, found
