from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from damage import fill_whole
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ENVIRONMENT

import sgabench.evidence.columns
from sgabench.errors import InputError
from sgabench.evidence.columns import Values, read_columns
from sgabench.evidence.leaderboard import make_tables
from sgabench.store.forms import all_fit, fits
from sgabench.store.store import KINDS, Record, Store
from sgabench.suite.plan import Plan, keys_of

LABELS: dict[str, Any] = {"dataset": "digits", "model": "resnet8", "optimizer": "sgd", "seed": 0, "group": "g"}
ANY = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text(max_size=3))
ODD = st.one_of(ANY, st.just(float("nan")), st.just(-(2**63)), st.integers(2**62, 2**70), st.just([1]), st.just({}))


@pytest.fixture
def store(tmp_path: Path, plan: Plan) -> Any:
    with Store(tmp_path / "results", create=True) as store:
        fill_whole(store, plan)
        yield store


def of_values(value: Any) -> Any:
    """Dictionaries, most of which have the same names."""
    names = st.sampled_from(["bytes", "loss", "top1"])
    same = st.fixed_dictionaries({"bytes": value, "loss": st.floats(0, 1), "top1": value})
    return st.lists(st.one_of(same, st.dictionaries(names, value)), max_size=12)


@settings(max_examples=40)
@given(of_values(ANY), of_values(ANY))
def test_columns_are_what_a_frame_of_dictionaries_has(
    first: list[dict[str, Any]], second: list[dict[str, Any]]
) -> None:
    values = Values()
    for rows in (first, second):
        values.add(rows)
    expected = pd.DataFrame([*first, *second], index=range(len(first) + len(second)))
    pd.testing.assert_frame_equal(values.frame(), expected[sorted(expected)], check_column_type=False)


@given(of_values(ODD), of_values(ODD))
def test_a_quick_look_never_passes_what_does_not_fit(
    labels: list[dict[str, Any]], results: list[dict[str, Any]]
) -> None:
    rows = list(zip([{**LABELS, **of} for of in labels], results, strict=False))
    fields = [("k", "trial", None, "done", "", 1.0)] * len(rows)
    parts = [Values().add([row[side] for row in rows]) for side in (0, 1)]
    fit = all(fits("k", "trial", None, "done", of, result, "", 1.0) for of, result in rows)
    assert fit or not all_fit("trial", list(zip(*fields, strict=True)), *parts)


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_columns_and_records_say_the_same(
    store: Store, plan: Plan, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sgabench.evidence.columns, "BATCH", batch)
    failed = next(store.records("cell"))
    store.put(replace(failed, status="failed", result={}, error="no", environment={**ENVIRONMENT, "cpu": "y"}))
    for kind, columns in read_columns(store).items():
        records = list(store.records(kind))
        assert columns.keys == [record.key for record in records]
        assert columns.parents == [record.parent for record in records]
        assert columns.statuses == [record.status for record in records]
        assert columns.descriptions == [record.description for record in records]
        assert [columns.environments[number] for number in columns.made_in] == [r.environment for r in records]
        assert columns.labels.frame().to_dict("records") == [dict(sorted(r.labels.items())) for r in records]
        assert columns.failures == [(r.status, r.labels, r.error) for r in records if r.status != "done"]
        for record, row in zip(records, columns.results.frame().to_dict("records"), strict=True):
            assert {name: value for name, value in row.items() if value == value} == record.result


def test_only_what_is_asked_for_is_read(store: Store, plan: Plan) -> None:
    trial = plan.trials[0]
    found = read_columns(store, {trial.key, trial.cells[0].key})
    assert [found[kind].keys for kind in KINDS] == [[trial.key], [trial.cells[0].key], []]


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {name: value for name, value in LABELS.items() if name != "model"}},
        {"labels": {**LABELS, "seed": "0"}},
        {"labels": {**LABELS, "optimizer": "two\nlines"}},
        {"labels": {**LABELS, "optimizer": "half of \ud83d"}},
        {"result": {"top1": "high"}},
        {"result": {"top1": 2**63}},
        {"result": {"top1": 10**400}},
        {"result": {"top1": [0.5]}},
        {"result": {"status": "done"}},
        {"finished_at": float("inf")},
    ],
    ids=str,
)
def test_a_record_that_is_not_well_formed_is_named(store: Store, plan: Plan, change: Mapping[str, Any]) -> None:
    """Its checksum is right: it was written so."""
    good = Record(plan.trials[0].key, "trial", None, "done", LABELS, {}, ENVIRONMENT, {"top1": 0.5})
    store.put(replace(good, **change))
    for keys in (None, keys_of(plan)):
        with pytest.raises(InputError, match=f"record {good.key} is damaged"):
            read_columns(store, keys)


def test_labels_of_cells_in_a_plan_are_read_where_they_are_shown(store: Store, plan: Plan) -> None:
    """A plan has labels of its own; the list of failures shows the stored ones."""
    cell = next(store.records("cell", detail=True))
    store.put(replace(cell, labels={"dataset": "digits"}))
    assert cell.key in read_columns(store, keys_of(plan))["cell"].keys
    with pytest.raises(InputError, match=f"record {cell.key} is damaged"):
        read_columns(store)
    store.put(replace(cell, labels={"dataset": "digits"}, status="failed", error="no"))
    with pytest.raises(InputError, match=f"record {cell.key} is damaged"):
        read_columns(store, keys_of(plan))
    store.put(replace(cell, status="failed", error="no"))
    assert read_columns(store, keys_of(plan))["cell"].failures == [("failed", cell.labels, "no")]


CHANGES = [
    ("result = replace(result, 'fp32', 'bf16')", "trial"),
    ("kind = 'probe'", "cell"),
    ("kind = 'sell'", "cell"),
    ("status = 'failed'", "trial"),
    ("description = '[]'", "cell"),
    ("key = 'f' || substr(key, 2)", "cell"),
    ("labels = x'7b7d'", "cell"),
    ("finished_at = 'now'", "cell"),
    ("environment = 'none'", "cell"),
]


@pytest.mark.parametrize(("change", "kind"), CHANGES, ids=[change for change, _ in CHANGES])
def test_a_record_that_was_changed_is_in_no_table(tmp_path: Path, plan: Plan, change: str, kind: str) -> None:
    with Store(tmp_path / "results", create=True) as store:
        fill_whole(store, plan)
    with closing(sqlite3.connect(tmp_path / "results/store.sqlite")) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute(
            f"UPDATE records SET {change} WHERE key = (SELECT min(key) FROM records WHERE kind = '{kind}')"
        )
        assert database.total_changes
        database.commit()
    for asked in (None, plan):
        with Store(tmp_path / "results") as store, pytest.raises(InputError, match=r"record \w{32} is damaged"):
            make_tables(store, asked)


def test_a_damaged_record_of_another_suite_disturbs_only_what_lacks_one(store: Store, plan: Plan) -> None:
    """It could be the one that is lacking, under another key."""
    other = Record("other", "trial", None, "done", LABELS, {}, ENVIRONMENT, {"top1": 0.5})
    store.put(other)
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("UPDATE records SET status = 'failed' WHERE key = 'other'")
        database.commit()
    assert len(make_tables(store, plan).trials) == 4
    store.remove([plan.trials[0].cells[0].key])
    with pytest.raises(InputError, match="record other is damaged"):
        make_tables(store, plan)
