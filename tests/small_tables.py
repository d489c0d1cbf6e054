"""Small tables of cells, as a leaderboard is made of them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sgabench.evidence.comparison import Question, compare
from sgabench.evidence.cubes import cubes
from sgabench.evidence.curves import curves
from sgabench.evidence.leaderboard import Tables, _leaderboard

FEW = {"adam": [0.50, 0.52, 0.54], "sgd": [0.61, 0.62, 0.66], "lion": [0.5, 0.53, 0.53]}


def cells(values: dict[str, list[float]], **same: Any) -> pd.DataFrame:
    """A cell per optimizer and seed, with the given pruned accuracy and a dense accuracy of 0.8."""
    rows = [
        {"optimizer": optimizer, "seed": seed, "pruned_top1": top1, "retention": top1 / 0.8}
        for optimizer, by_seed in values.items()
        for seed, top1 in enumerate(by_seed)
    ]
    return (
        pd.DataFrame(rows)
        .assign(
            **{
                "dataset": "digits",
                "model": "resnet8",
                "pruner": "magnitude",
                "of": "weights",
                "ratio": 0.5,
                "status": "done",
                "dense_top1": 0.8,
                "dense_loss": 1.0,
                "group": "g",
                "device": "cpu",
                "test_images": 1000.0,
                "chance": 0.1,
                "trained": True,
                "trial_seconds": 60.0,
                "train_passes": 100.0,
                "train_seconds": 50.0,
                **same,
            }
        )
        .assign(counted_top1=lambda frame: frame["pruned_top1"], counted_dense=lambda frame: frame["dense_top1"])
    )


def curve(top1: dict[float, list[float]], optimizer: str = "adam", **same: Any) -> pd.DataFrame:
    return pd.concat([cells({optimizer: values}, ratio=ratio, **same) for ratio, values in top1.items()])


def tables(frame: pd.DataFrame, question: Question) -> Tables:
    """What a report is made of, from cells."""
    frame = frame.reset_index(drop=True)
    compared = compare(cubes(frame), question)
    about = (compared, question.reference, question.resolution)
    trials = frame.drop_duplicates(["dataset", "model", "optimizer", "seed"])
    trials = trials.assign(seconds=trials["trial_seconds"], top1=trials["dense_top1"], at_chance=False, classes=10)
    failures = pd.DataFrame(columns=["kind", "name", "status", "error"])
    board = _leaderboard(frame, *about)
    return Tables(board, curves(cubes(frame), *about), compared, frame, trials, failures, (), question)
