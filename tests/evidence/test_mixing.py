"""Rows of one table that were made in different ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from support import ENVIRONMENT, fill

from sgabench.evidence.leaderboard import make_tables
from sgabench.evidence.mixing import mixed
from sgabench.store.store import Store
from sgabench.suite.plan import Plan

Run = Callable[..., "CompletedProcess[str]"]
CODE: dict[str, Any] = {"code": "a1b2c3d4e5f6", "packages": {"sgabench": "0.1.0", "torch": "2"}}
WARNING = "rows of one table were made with different code: sgabench 0.1.0 (a1b2c3) and sgabench 0.1.0 (d4e5f6)"


def made(**facts: Any) -> dict[str, Any]:
    return {**ENVIRONMENT, **CODE, **facts}


@pytest.fixture
def of_two_codes(store: Store, plan: Plan) -> Store:
    """Seed 1 was made with other code than seed 0."""
    fill(store, plan)
    for kind in ("trial", "cell"):
        for record in list(store.records(kind, detail=True)):
            code = "d4e5f6a1b2c3" if record.labels["seed"] else "a1b2c3d4e5f6"
            store.put(replace(record, environment=made(code=code)))
    return store


@pytest.mark.parametrize(
    ("facts", "phrase_start"),
    [
        (
            {"packages": {"sgabench": "0.2.0", "torch": "2"}},
            "with different code: sgabench 0.1.0 (a1b2c3) and sgabench ",
        ),
        ({"packages": {"sgabench": "0.1.0", "torch": "3"}}, "with different versions of torch: 2 and 3"),
        ({"python": "4"}, "with different versions of python: 3 and 4"),
        ({"device": "cuda", "gpu": "H100"}, "on different devices: cpu (x) and cuda (H100)"),
        ({"precision": "bf16"}, "in different precision: bf16 and unknown"),
        ({"threads": 2}, "with different numbers of threads: 1 and 2"),
        ({"batch_norm": "torch"}, "with different batch_norm: torch and unknown"),
    ],
)
def test_each_kind_of_difference_is_one_phrase(facts: dict[str, Any], phrase_start: str) -> None:
    (phrase,) = mixed([made(), made(**facts)])
    assert phrase.startswith(phrase_start)


def test_what_changes_no_number_is_not_mentioned() -> None:
    assert mixed([made(), made(cores=64, commit="f" * 40, system="Linux", bf16=True)]) == []
    assert mixed([made()]) == mixed([]) == []
    more = {"sgabench": "0.1.0", "torch": "2", "schedulefree": "1.4"}  # which only some trials need
    assert mixed([made(), made(packages=more)]) == []


def test_many_values_are_counted() -> None:
    (phrase,) = mixed([made(threads=number) for number in range(1, 8)])
    assert phrase == "with different numbers of threads: 1, 2, 3, 4, and 3 more"


def test_tables_say_how_their_rows_differ(of_two_codes: Store, plan: Plan) -> None:
    tables = make_tables(of_two_codes, plan)
    assert tables.warnings == (WARNING,)
    assert sorted(tables.trials["environment"]) == sorted(tables.cells["environment"]) == [0, 0, 1, 1]
    assert make_tables(of_two_codes, plan, by="compression").warnings == (WARNING,)
    one_seed = replace(plan, trials=tuple(trial for trial in plan.trials if trial.seed == 0))
    assert make_tables(of_two_codes, one_seed).warnings == ()


def test_tables_that_were_made_apart_are_not_mixed(of_two_codes: Store, plan: Plan) -> None:
    for kind in ("trial", "cell"):
        for record in list(of_two_codes.records(kind, detail=True)):
            labels = {**record.labels, "dataset": f"digits{record.labels['seed']}"}
            of_two_codes.put(replace(record, labels=labels))
    assert make_tables(of_two_codes).warnings == ()


def test_one_table_of_several_is_named(of_two_codes: Store, plan: Plan) -> None:
    for kind in ("trial", "cell"):
        for record in list(of_two_codes.records(kind, detail=True)):
            if record.labels["optimizer"] == "adam" and not record.labels["seed"]:
                of_two_codes.put(replace(record, labels={**record.labels, "dataset": "alone"}))
    assert make_tables(of_two_codes).warnings == (f"digits, resnet8: {WARNING}",)


def test_every_format_says_so_above_its_tables(of_two_codes: Store, tiny: Path, sgabench: Run) -> None:
    for form in ("table", "markdown", "html", "latex"):
        shown = sgabench("report", tiny, "--format", form).stdout.replace("\n", " ").replace("\\_", "_")
        assert shown.index("Warning: rows of one table were made with different code") < shown.index("magnitude"), form
    assert json.loads(sgabench("report", tiny, "--format", "json").stdout)["warnings"] == [f"Warning: {WARNING}."]
    csv = sgabench("report", tiny, "--format", "csv")
    assert csv.stderr == f"Warning: {WARNING}.\n"
    assert "Warning" not in csv.stdout


def test_the_gate_notes_it(of_two_codes: Store, tiny: Path, tmp_path: Path, sgabench: Run) -> None:
    assert sgabench("baseline", tiny, "--output", "baseline.json").returncode == 0
    outcome = sgabench("check", tiny, "--baseline", "baseline.json")
    assert "note: environment: what is compared now was made with different code: sgabench 0.1.0" in outcome.stdout
