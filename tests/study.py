"""A study with known numbers: two optimizers, three seeds, two pruners, three ratios, and every detail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import ENVIRONMENT

from sgabench.evidence.details import Details
from sgabench.evidence.leaderboard import Tables
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan
from sgabench.suite.resolving import Suite

HOSTILE = "<script>alert(1)</script>"
MARKUP = '<img src=x onerror="alert(1)"> %{x} $x$ &amp;'
STUDY = f"""
description = "</script><script>alert(1)</script>"
seeds = [0, 1, 2]
ratios = [0.2, 0.4, 0.8]
datasets = [{{name = "digits"}}]
models = [{{name = "resnet8"}}]

[[optimizers]]
name = "adam"
lr = 0.01

[[optimizers]]
name = "{HOSTILE}"

[[pruners]]
name = "magnitude"

[[pruners]]
name = "random"
label = '''{MARKUP}'''
"""
LOSS_OF_ACCURACY = {"adam": 0.5, HOSTILE: 0.25}  # times the ratio
DENSE = {"adam": 0.8, HOSTILE: 0.7}
EDGES = [-3.0, -2.0, -1.0, 0.0]
HISTOGRAM = {"adam": [1, 1, 2], HOSTILE: [0, 4, 0]}
LAYERS = {"layer10": 0.9, "layer2": 0.1, "<b>conv</b>": 0.5}


@dataclass(frozen=True)
class Study:
    suite: Suite
    plan: Plan
    tables: Tables
    details: Details
    results: Path


def dense(optimizer: str, seed: int) -> float:
    return DENSE[optimizer] + 0.01 * seed


def pruned(optimizer: str, seed: int, ratio: float) -> float:
    return dense(optimizer, seed) * (1 - LOSS_OF_ACCURACY[optimizer] * ratio) - 0.001 * seed * ratio


def put_study(store: Store, plan: Plan) -> None:
    for trial in plan.trials:
        name, seed = trial.optimizer.name, trial.seed
        history = [{"epoch": e, "loss": 3.0 / e + seed, "top1": 0.1 * e, "lr": 0.1, "seconds": 1.0} for e in (1, 2)]
        result = {"top1": dense(name, seed), "nonzero_params": 1000, "train_seconds": 10.0 + seed}
        result |= {"train_images_per_s": 500.0, "classes": 10, "test_images": 1000}
        put(store, "trial", trial.key, None, trial.labels(), result, {"history": history})
        for probe in trial.probes:
            everything = {"count": sum(HISTOGRAM[name]), "zeros": 0, "histogram": HISTOGRAM[name]}
            labels = {**trial.labels(), "probe": "weights"}
            put(store, "probe", probe.key, trial.key, labels, {}, {"edges": EDGES, "all": everything, "layers": {}})
        for cell in trial.cells:
            top1, ratio = pruned(name, seed, cell.ratio), cell.ratio
            result = {"top1": top1, "retention": top1 / dense(name, seed), "sparsity": ratio}
            result |= {"compression_ratio": 1 / (1 - ratio), "theoretical_speedup": 1 + ratio, "measured_speedup": 2.0}
            result |= {"images_per_s": 100.0 * (1 + ratio), "nonzero_params": 1000 * (1 - ratio)}
            detail = {"layer_sparsity": {layer: ratio * value for layer, value in LAYERS.items()}}
            put(store, "cell", cell.key, trial.key, trial.labels(cell), result, detail)


def put(store: Store, kind: Any, key: str, parent: str | None, labels: Any, result: Any, detail: Any) -> None:
    store.put(Record(key, kind, parent, "done", labels, {}, ENVIRONMENT, result, detail))
