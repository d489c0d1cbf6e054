"""What the gate tells apart: missing, failed, diverged, renamed; and what is not compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gate_groups import edited
from support import fill

from sgabench.errors import InputError
from sgabench.gate.baseline import read_baseline, write_baseline
from sgabench.gate.items import Outcome
from sgabench.gate.measured import check_plan, complete, measured
from sgabench.store.store import Store
from sgabench.suite.plan import Plan


def outcome(plan: Plan, folder: Path, frozen: Path, only: str | None = None, **changes: dict[str, Any]) -> Outcome:
    """What the gate says of known numbers with some changes."""
    with Store(folder / "now", create=True) as store:
        fill(store, plan, **changes)
    return check_plan(plan, folder / "now", frozen, only)


def test_the_same_results_are_unchanged(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    found = outcome(plan, tmp_path, frozen)
    assert (found.exit_code, found.gaps, found.notes) == (0, (), ())
    assert {item.status for item in found.items} == {"unchanged"}
    assert {item.metric for item in found.items} == {"dense_top1", "pruned_top1", "sparsity"}


def test_a_missing_cell_is_incomplete(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    found = outcome(plan, tmp_path, frozen, adam_1={"trial": "missing"})
    assert found.exit_code == 3
    assert found.gaps == ("missing: trial digits/resnet8/adam: seed 1",)
    assert any("--run" in note for note in found.notes)


def test_an_empty_store_is_incomplete(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    Store(tmp_path / "now", create=True).close()
    found = check_plan(plan, tmp_path / "now", frozen)
    assert (found.exit_code, found.compared, len(found.gaps)) == (3, 0, 2)


def test_what_fails_now_is_a_regression(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    found = outcome(plan, tmp_path, frozen, adam_1={"trial": "failed"})
    assert found.exit_code == 1
    (item,) = found.having("regressed")
    assert (item.metric, item.name, item.note) == ("status", "digits/resnet8/adam", "failed: seed 1")


def test_what_diverges_now_counts_at_chance(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    found = outcome(plan, tmp_path, frozen, adam_1={"trial": "diverged"})
    assert found.exit_code == 1
    means = {item.metric: item.now.mean for item in found.having("regressed") if item.now}
    assert means == {"dense_top1": pytest.approx((0.8 + 0.1) / 2), "pruned_top1": pytest.approx((0.4 + 0.1) / 2)}
    assert "diverged, so counted at chance: digits/resnet8/adam: seed 1" in found.notes


def test_a_cell_that_fails_is_a_regression_of_its_own(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    (item,) = outcome(plan, tmp_path, frozen, adam_1={"cell": "failed"}).having("regressed")
    assert (item.metric, item.name) == ("status", "digits/resnet8/adam/magnitude/0.5")


def test_what_diverged_in_the_baseline_may_diverge_again(plan: Plan, tmp_path: Path) -> None:
    with Store(tmp_path / "now", create=True) as store:
        fill(store, plan, adam_1={"trial": "diverged"})
    with pytest.raises(InputError, match=r"2 of 8 results are not there .*seed 1: diverged.*--allow-incomplete"):
        complete(plan, tmp_path / "now")
    path = tmp_path / "incomplete.json"
    write_baseline(measured(plan, tmp_path / "now"), path)
    assert read_baseline(path).trials[0].lacking == {1: "diverged"}
    assert check_plan(plan, tmp_path / "now", path).exit_code == 0


def test_an_empty_baseline_is_nothing_to_compare(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    edited(frozen, lambda data: data.update(trials=[], cells=[]))
    found = outcome(plan, tmp_path, frozen)
    assert found.exit_code == 3
    assert found.gaps == ("nothing to compare: the baseline is empty; make a new one with sgabench baseline",)


def test_a_renamed_optimizer_is_reported_with_the_nearest_name(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    frozen.write_text(frozen.read_text().replace('"stochgradadam"', '"stochgradam"'))
    found = outcome(plan, tmp_path, frozen)
    assert found.exit_code == 3
    (gap,) = found.gaps
    assert gap.startswith("not in the suite: optimizer 'stochgradam' of the baseline (1 cell;")
    assert gap.endswith("did you mean 'stochgradadam'?")
    assert any(note.startswith("not in the baseline, so not compared: 2 trials and cells") for note in found.notes)


def test_a_ratio_that_was_taken_out_is_reported(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    edited(frozen, lambda data: data["cells"][0].update(ratio=0.25))
    (gap,) = outcome(plan, tmp_path, frozen).gaps
    assert gap.startswith("not in the suite: cell digits/resnet8/adam/magnitude/0.25 of the baseline")


def test_the_baseline_of_another_suite_is_refused(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    edited(frozen, lambda data: data.update(suite="quickstart"))
    with pytest.raises(InputError, match="the baseline is of suite 'quickstart', this suite is 'tiny'"):
        outcome(plan, tmp_path, frozen)


def test_only_cuts_down_both_sides_and_says_so(plan: Plan, tmp_path: Path, frozen: Path) -> None:
    found = outcome(plan, tmp_path, frozen, only="*/adam/*", stochgradadam_0={"trial": "missing"})
    assert (found.exit_code, len(found.items)) == (0, 3)
    assert found.notes == ("only */adam/*: 1 of the baseline's 2 cells is compared",)
    one_seed = check_plan(plan, tmp_path / "now", frozen, "*/adam/0")
    assert {item.was.n for item in one_seed.items if item.was} == {1}
    edited(frozen, lambda data: data.update(trials=data["trials"][1:], cells=data["cells"][1:]))
    with pytest.raises(InputError, match=r"--only \*/adam/\*: matches no trial .* of the baseline"):
        check_plan(plan, tmp_path / "now", frozen, "*/adam/*")
