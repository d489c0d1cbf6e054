"""Layers and numbers of probes as shown to a reader, the same in every format."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sgabench.report.display import percent, ratio

MOST_BESIDE = 40  # numbers of probes below a leaderboard; if there are more, only their count
PROBES = "What probes found: mean and standard deviation over n seeds"
LAYERS = "Layers: zeros, and output channels or features; mean over n seeds"


def layers_as_text(layers: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Layers as shown to a reader: percent, and channels as integers where they are whole."""
    return _with_subject(layers, arm).assign(
        layer=layers["layer"].astype(str),
        n=layers["n"].astype(str),
        **{"sparsity %": layers["sparsity"].map(percent), "channels": layers["channels"].map(_number)},
    )


def probes_as_text(probes: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Numbers of probes as shown to a reader: four digits."""
    named = probes[["probe", "number"]].astype(str)
    rest = {"n": probes["n"].astype(str), "mean": probes["mean"].map(_number), "std": probes["std"].map(_number)}
    return pd.concat([named, _with_subject(probes, arm)], axis="columns").assign(**rest)


def _with_subject(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    places = [ratio(row) if row["pruner"] else "" for row in rows[["pruner", "ratio", "of"]].to_dict("records")]
    return pd.DataFrame(
        {
            "data set": rows["dataset"].astype(str),
            "model": rows["model"].astype(str),
            "pruner": rows["pruner"].where(rows["pruner"] != "", "(dense)").astype(str),
            "ratio": places,
            arm: rows["optimizer"].astype(str),
        }
    )


def _number(value: Any) -> str:
    return "" if value is None or value != value else f"{value:.4g}"
