"""What a suite wants decided: checked against what it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgabench.errors import InputError
from sgabench.suite.resolving import load_suite


def with_question(tiny: Path, lines: str) -> Path:
    tiny.write_text(tiny.read_text() + f"\n[question]\n{lines}\n")
    return tiny


def test_a_question_is_taken_over(tiny: Path) -> None:
    lines = 'reference = "stochgradadam"\npruner = "magnitude"\nratio = 0.5\nresolution = 1.0'
    question = load_suite(with_question(tiny, lines)).question
    assert (question.reference, question.pruner, question.ratio, question.resolution) == (
        "stochgradadam",
        "magnitude",
        0.5,
        1.0,
    )


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('reference = "adm"', r"question.reference: no optimizer 'adm'; did you mean 'adam'\?"),
        ('pruner = "magnitud"', r"question.pruner: no pruner 'magnitud'; did you mean 'magnitude'\?"),
        ("ratio = 0.5", "question.ratio: for which pruner"),
        ('pruner = "magnitude"\nratio = 0.6', "question.ratio: pruner 'magnitude' has no ratio 0.6; it has 0.5"),
        ("resolution = -1.0", "question.resolution"),
        ("resolutoin = 1.0", r"question.resolutoin: unknown key; did you mean 'resolution'\?"),
    ],
)
def test_what_the_suite_does_not_have_is_refused(tiny: Path, lines: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        load_suite(with_question(tiny, lines))


def test_seeds_may_be_a_range(tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("seeds = [0, 1]", "seeds = {from = 4, to = 9}"))
    suite = load_suite(tiny)
    assert suite.seeds == tuple(range(9))
    assert suite.rounds is not None
    assert (suite.rounds.first, suite.rounds.last) == (4, 9)


@pytest.mark.parametrize(
    ("seeds", "problem"),
    [
        ("{from = 2, to = 9}", "seeds.from"),
        ("{from = 5, to = 4}", r"seeds: from \(5\) must be at most to \(4\)"),
        ("{from = 3}", "seeds.to"),
        ("{from = 3, to = 9, by = 2}", "seeds.*by"),
        ("{from = 3, to = 10000000}", "seeds.to"),
        ("{from = 3.5, to = 9}", "seeds.from"),
    ],
)
def test_a_range_that_cannot_be_is_refused(tiny: Path, seeds: str, problem: str) -> None:
    tiny.write_text(tiny.read_text().replace("seeds = [0, 1]", f"seeds = {seeds}"))
    with pytest.raises(InputError, match=problem):
        load_suite(tiny)
