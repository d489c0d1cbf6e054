"""Estimates of memory beside what trainings really took."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from damage import FULL

CASES = [
    ("resnet20", 32, 128),
    ("resnet20", 32, 512),
    ("resnet20", 32, 2048),
    ("resnet110", 32, 128),
    ("resnet110", 32, 512),
    ("torchvision:resnet18", 32, 128),
    ("torchvision:resnet18", 64, 256),
    ("torchvision:resnet18", 224, 32),
]
CODE = """
import json, sys
import torch
from pathlib import Path
from sgabench.training.building import build_optimizer, initial_network
from sgabench.system.environment import PeakMemory
from sgabench.training.footprint import measure, need, kept_by
from sgabench.plugins import models, optimizers
from sgabench.plugins import ImageSpec
from sgabench.suite.choices import Choice
from sgabench.suite.tables import Recipe
from sgabench.training.data import Data, Images
from sgabench.training.loop import train

name, side, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
spec = ImageSpec(3, side, side, 10)
model = Choice(name, name, models[name].resolve({}))
adam = Choice("adam", "adam", optimizers["adam"].resolve({}))
estimate = need(measure(initial_network(model, spec, 0), spec), Recipe(batch_size=batch), kept_by(adam, 1), "cpu")

def training(images, recipe):
    split = Images(torch.zeros(images, 3, side, side, dtype=torch.uint8), torch.zeros(images, dtype=torch.int64))
    constant = torch.full((3,), 0.5, dtype=torch.float64)
    data = Data(spec, split, Images(split.images[:0], split.labels[:0]), split, constant, constant)
    def go():
        network = initial_network(model, spec, 0).to(memory_format=torch.channels_last)
        train(network, build_optimizer(adam, network, 0), data, recipe, 0, precision="fp32")
    return go

training(4, Recipe(epochs=1, batch_size=2))()  # what libraries take once and for all
measured = training(2 * batch, Recipe(epochs=1, batch_size=batch))
status = Path("/proc/self/status").read_text().splitlines()
before = int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) * 1024
peak = PeakMemory("cpu")
measured()
print(json.dumps([estimate.total, peak.bytes() - before]))
"""


@pytest.mark.parametrize(("name", "side", "batch"), CASES if FULL else CASES[:1])
def test_an_estimate_is_near_what_was_measured_and_not_above_it(name: str, side: int, batch: int) -> None:
    """Estimates that trainings are refused by must not be too high, and not far below either."""
    command = [sys.executable, "-c", CODE, name, str(side), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    estimated, measured = json.loads(done.stdout)
    print(f"{name}, {side} x {side}, batch {batch}: {estimated / 1e6:.0f} MB, {measured / 1e6:.0f} MB measured")
    assert 0.5 <= estimated / measured <= 1.1
