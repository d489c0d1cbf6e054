"""Suites of any size, and a store with records for all of it, as a run would have put them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from support import ENVIRONMENT

from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan

# Cells to (models, pruners); times 10 optimizers, 5 seeds and 10 ratios.
SIZES = {1_000: (1, 2), 10_000: (4, 5), 100_000: (20, 10)}
HEAD = """
description = "Nobody trained this."
seeds = [0, 1, 2, 3, 4]
ratios = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
datasets = [{name = "digits"}]
"""
LAYERS = [f"layer{stage}.{block}.conv{number}" for stage in (1, 2, 3) for block in (0, 1, 2) for number in (1, 2)]


def write_suite(path: Path, cells: int) -> Path:
    """A suite of so many cells (`SIZES`)."""
    models, pruners = SIZES[cells]
    entries = [f'[[models]]\nname = "resnet8"\nlabel = "width {4 + i}"\nwidth = {4 + i}' for i in range(models)]
    entries += [f'[[optimizers]]\nname = "adam"\nlabel = "lr {i}"\nlr = {0.001 * (1 + i):g}' for i in range(10)]
    entries += [
        f'[[pruners]]\nname = "magnitude"\nlabel = "tuned {i}"\nfinetune = {{epochs = {i + 1}}}' for i in range(pruners)
    ]
    path.write_text(HEAD + "\n\n".join(entries) + "\n")
    return path


def fill_synthetic(store: Store, plan: Plan) -> None:
    """Put a record for every trial, probe and cell, with as many numbers and details as a run measures."""
    chance = np.random.default_rng(0)
    with store.transaction():
        for trial in plan.trials:
            place = int(trial.optimizer.label.removeprefix("lr "))
            dense = 0.9 - 0.01 * place + 0.01 * chance.normal()
            result = {**_network(dense, 0.0), "train_seconds": 100.0, "train_images_per_s": 500.0, "seconds": 110.0}
            history = [{"epoch": epoch, "loss": 2 * 0.8**epoch, "lr": 0.01, "seconds": 10.0} for epoch in range(1, 11)]
            labels, description = trial.labels(), trial.description()
            _put(store, trial.key, "trial", None, labels, description, result, {"history": history})
            for probe in trial.probes:
                labels, description = {**labels, "probe": probe.probe.label}, probe.probe.identity()
                of_layer = {"count": 15_000, "zeros": 0, "histogram": list(range(64)), "mean": 0.0, "std": 0.1}
                detail = {"edges": [i / 10 for i in range(-60, 5)], "layers": dict.fromkeys(LAYERS, of_layer)}
                _put(store, probe.key, "probe", trial.key, labels, description, {}, detail)
            for cell in trial.cells:
                keeps = 1 - 0.6 * cell.ratio**4 * (1 + 0.1 * place) + 0.01 * chance.normal()
                speed = 1 + 0.02 * chance.normal()
                result = {**_network(dense * keeps, cell.ratio), "retention": keeps, "pruning_seconds": 0.02}
                result |= {"measured_speedup": speed, "images_per_s": 5000 * speed, "latency_s": 0.001 / speed}
                detail = {"layer_sparsity": dict.fromkeys(LAYERS, cell.ratio)}
                _put(store, cell.key, "cell", trial.key, trial.labels(cell), cell.description(), result, detail)


def _network(top1: float, ratio: float) -> dict[str, Any]:
    left = 1 - ratio
    return {
        "top1": top1, "loss": 1.0 - top1, "classes": 10, "test_images": 360, "precision": "fp32", "sparsity": ratio,
        "params": 270_000, "nonzero_params": int(270_000 * left), "compression_ratio": 1 / left,
        "macs": 40_000_000, "nonzero_macs": int(40_000_000 * left), "theoretical_speedup": 1 / left,
        "bytes": 1_080_000, "gzip_bytes": int(1_000_000 * left), "timed_alone": True,
    }  # fmt: skip


def _put(store: Store, key: str, kind: Any, parent: str | None, *content: Any) -> None:
    labels, description, result, detail = content
    store.put(Record(key, kind, parent, "done", labels, description, ENVIRONMENT, result, detail))
