"""What a reader must know beside the verdicts."""

from __future__ import annotations

import pandas as pd
import pytest
from small_tables import curve

from sgabench.evidence.comparison import Question, compare
from sgabench.evidence.cubes import cubes
from sgabench.evidence.verdicts import notes_on


def compared(n: int, better: float) -> pd.DataFrame:
    """Adam at 60 % on average, SGD above it."""
    spread = [0.001 * (seed % 3) for seed in range(n)]
    low, high = ({ratio: [0.6 + s + more for s in spread] for ratio in (0.5, 0.8)} for more in (0.0, better))
    frame = pd.concat([curve(low, "adam"), curve(high, "sgd")], ignore_index=True)
    return compare(cubes(frame), Question("adam"))


@pytest.mark.parametrize(("n", "noted"), [(2, False), (3, True), (4, False), (5, False)])
def test_verdicts_of_three_seeds_are_noted(n: int, noted: bool) -> None:
    found = compared(n, 0.3)
    assert set(found["outcome"]) == ({"better"} if n > 2 else {"few"}) | set(found["outcome"]) & {"same", "undecided"}
    notes = notes_on(found)
    assert len(notes) == noted
    assert all(note.startswith(f"some verdicts rest on {n} seeds;") for note in notes)


def test_nothing_is_noted_where_nothing_is_decided() -> None:
    assert notes_on(compared(3, 0.0).assign(outcome="undecided")) == ()
    assert notes_on(compare(cubes(curve({0.5: [0.5, 0.6]})), Question("adam"))) == ()
