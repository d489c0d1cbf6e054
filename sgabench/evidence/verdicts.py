"""Comparisons as columns of the tables, beside the numbers of each row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

GROUP = ["dataset", "model", "pruner", "of", "ratio", "optimizer"]
NO_VERDICT: dict[str, Any] = {
    "reference": "",
    "difference": math.nan,
    "difference_low": math.nan,
    "difference_high": math.nan,
    "n_paired": 0,
    "p": math.nan,
    "level": math.nan,
    "outcome": "none",
    "leading": False,
    "verdict": "",
}


FULL = 4  # seeds from which the stated error rate holds, see docs/metrics.md


def notes_on(compared: pd.DataFrame) -> tuple[str, ...]:
    """What a reader must know about verdicts of few seeds."""
    decided = compared["outcome"].isin(["better", "worse", "same"])
    few = compared.loc[decided & (compared["n_paired"] < FULL), "n_paired"]
    if few.empty:
        return ()
    return (
        f"some verdicts rest on {few.min()} seeds; of simulated reports with so few, up to 10 % had a wrong one where "
        "networks are of two kinds, up to 6 % elsewhere, and not at most 5 %",
    )


def with_verdicts(board: pd.DataFrame, compared: pd.DataFrame, reference: str, resolution: float) -> pd.DataFrame:
    """The rows with the columns of `NO_VERDICT` filled in from comparisons with the reference."""
    identity = [name for name in GROUP if name in board and name != "optimizer"]
    found = compared[compared["second"] == reference].rename(columns={"first": "optimizer"})
    names = [name for name in NO_VERDICT if name in found]
    extra = [name for name in ("more_seeds", "most_seeds") if len(identity) < len(GROUP) - 1]
    board = board.merge(found[[*identity, "optimizer", *names, *extra]], on=[*identity, "optimizer"], how="left")
    itself = board["optimizer"] == reference
    board["outcome"] = board["outcome"].astype(object).fillna("none").mask(itself, "reference")
    board["verdict"] = board["verdict"].astype(object).fillna("").mask(itself, "reference")
    for name in ("n_paired", *extra):
        board[name] = board[name].fillna(0).astype(int)
    board["reference"] = reference if len(compared) else ""
    board["leading"] = _leading(board, identity, reference, resolution)
    return board


def _leading(board: pd.DataFrame, identity: list[str], reference: str, resolution: float) -> NDArray[Any]:
    import numpy as np

    from sgabench.evidence.comparison import leading

    marks = np.zeros(len(board), dtype=bool)
    columns = ("optimizer", "outcome", "difference", "difference_low")
    names, outcomes, differences, lows = (board[name].to_numpy() for name in columns)
    for rows in board.groupby(identity, sort=False).indices.values():
        found = zip(outcomes[rows], differences[rows], lows[rows], strict=True)
        of_rows = dict(zip(names[rows], found, strict=True))
        known = {name: row for name, row in of_rows.items() if row[0] not in ("none", "few", "reference")}
        leaders = leading(known, reference, resolution) if known else set()
        marks[rows] = [name in leaders for name in names[rows]]
    return marks
