from __future__ import annotations

from dataclasses import replace

import pandas as pd
from damage import fill_whole
from support import ENVIRONMENT, fill

from sgabench.evidence.frames import of_everything, of_plan
from sgabench.store.store import Store
from sgabench.suite.plan import Plan


def test_a_plan_and_everything_have_the_same_rows_of_a_whole_store(store: Store, plan: Plan) -> None:
    fill_whole(store, plan)
    asked, stored = of_plan(store, plan), of_everything(store)
    assert asked.environments == stored.environments == (ENVIRONMENT,)
    for one, other in ((asked.trials, stored.trials), (asked.cells, stored.cells.drop(columns="pruner_key"))):
        one, other = (frame.set_index("key").sort_index() for frame in (one, other))
        pd.testing.assert_frame_equal(one[sorted(one)], other[sorted(other)])


def test_rows_are_in_the_order_of_the_suite_and_those_without_a_record_are_there(store: Store, plan: Plan) -> None:
    fill(store, plan, adam_1={"trial": "missing"}, stochgradadam_0={"trial": "diverged"})
    frames = of_plan(store, plan)
    assert frames.trials["key"].tolist() == [trial.key for trial in plan.trials]
    assert frames.trials["status"].tolist() == ["done", "missing", "diverged", "done"]
    assert frames.cells["key"].tolist() == [cell.key for _, cell in plan.cells()]
    assert frames.cells["status"].tolist() == ["done", "missing", "diverged", "done"]
    assert frames.cells["device"].fillna("none").tolist() == ["cpu", "none", "none", "cpu"]
    assert frames.cells["dense_top1"].isna().tolist() == [False, True, True, False]
    assert frames.failures.to_dict("records") == [
        {"kind": "trial", "name": "digits/resnet8/stochgradadam/0", "status": "diverged", "error": "it\nbroke"}
    ]


def test_a_trial_that_is_not_done_has_each_of_its_cells_once(store: Store, plan: Plan) -> None:
    fill_whole(store, plan)
    trial = next(store.records("trial"))
    store.put(replace(trial, status="failed", result={}, error="no"))
    cells = of_everything(store).cells
    assert len(cells) == len(list(plan.cells()))
    assert not cells.duplicated(["dataset", "model", "optimizer", "seed", "pruner", "ratio"]).any()


def test_nothing_stored_is_no_row(store: Store) -> None:
    frames = of_everything(store)
    assert (len(frames.trials), len(frames.cells), len(frames.failures), frames.environments) == (0, 0, 0, ())
