"""What the gate calls a regression: rules, tolerances, caps and floors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_groups import baseline, compare, group
from support import ENVIRONMENT

from sgabench.errors import InputError
from sgabench.gate.check import check, hardly_above_chance
from sgabench.gate.items import Outcome
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite
from sgabench.suite.rules import METRICS, GateTable, parse_floor

WORSE = [
    ("pruned_top1", [0.90, 0.91, 0.92], [0.80, 0.81, 0.825]),
    ("retention", [0.90, 0.91, 0.92], [0.80, 0.81, 0.825]),
    ("sparsity", [0.5] * 3, [0.4] * 3),
    ("compression_ratio", [2.0] * 3, [1.9] * 3),
    ("macs", [1000.0] * 3, [1100.0] * 3),
    ("nonzero_macs", [1000.0, 1001.0, 1002.0], [1100.0, 1101.0, 1103.0]),
    ("bytes", [4000.0] * 3, [4100.0] * 3),
    ("gzip_bytes", [4000.0, 4001.0, 4002.0], [4200.0, 4202.0, 4201.0]),
    ("images_per_s", [4000.0, 4001.0, 4002.0], [2000.0, 2003.0, 2002.0]),
]


@pytest.mark.parametrize(
    ("metric", "good", "bad", "rule"),
    [(*case, "tolerance") for case in WORSE] + [(*case, "statistical") for case in WORSE if case[0] == "pruned_top1"],
)
def test_every_metric_is_worse_in_its_own_direction(metric: str, good: Any, bad: Any, rule: str) -> None:
    rules = {metric: {"rule": rule}}
    assert compare({metric: good}, {metric: bad}, **rules).status == "regressed"
    assert compare({metric: bad}, {metric: good}, **rules).status == "improved"
    assert compare({metric: good}, {metric: good}, **rules).status == "unchanged"


def test_every_metric_is_tried_above() -> None:
    assert {case[0] for case in WORSE} | {"dense_top1"} == set(METRICS)


def test_dense_accuracy_is_one_check_for_a_trial() -> None:
    was, now = (group({"dense_top1": values}, pruner=None) for values in ([0.9, 0.91, 0.92], [0.5, 0.52, 0.51]))
    cells = [group({"pruned_top1": [0.5, 0.6, 0.7]}, pruner=name) for name in ("magnitude", "random")]
    found = check(baseline(*cells, trials=(was,)), baseline(*cells, trials=(now,)), GateTable())
    red = {(item.metric, item.name, item.rule) for item in found.having("regressed")}
    dense = "dense_top1", "digits/resnet8/adam"
    assert red == {(*dense, "statistical, paired"), (*dense, "cap")}
    assert {item.status for item in found.items if item.metric == "pruned_top1"} == {"unchanged"}


def test_the_tolerance_rule_ends_at_the_tolerance() -> None:
    rules = {"retention": {"rule": "tolerance", "tolerance": 2.0}}
    assert compare({"retention": [0.90, 0.92]}, {"retention": [0.88, 0.90]}, **rules).status == "held"
    assert compare({"retention": [0.90, 0.92]}, {"retention": [0.88, 0.899]}, **rules).status == "regressed"
    in_percent = {"bytes": {"rule": "tolerance", "tolerance": 2.0}}
    assert compare({"bytes": [1000.0]}, {"bytes": [1020.0]}, **in_percent).status == "held"
    assert compare({"bytes": [1000.0]}, {"bytes": [1021.0]}, **in_percent).status == "regressed"


def test_the_test_asks_for_more_than_the_tolerance_and_more_than_noise() -> None:
    was = [0.90, 0.92, 0.91, 0.93, 0.89]
    by_two_points = [value - 0.02 - 0.0001 * i for i, value in enumerate(was)]
    assert compare({"pruned_top1": was}, {"pruned_top1": by_two_points}).status == "regressed"
    assert (
        compare({"pruned_top1": was}, {"pruned_top1": by_two_points}, pruned_top1={"tolerance": 3.0}).status == "held"
    )
    noisy = compare({"pruned_top1": was}, {"pruned_top1": [0.95, 0.87, 0.94, 0.88, 0.81]})
    assert noisy.status == "undecided"


def test_what_is_not_shown_either_way_is_undecided_with_the_seeds_that_would_decide() -> None:
    cell = group({"pruned_top1": [0.90, 0.92, 0.91, 0.93, 0.89]})
    now = group({"pruned_top1": [0.95, 0.87, 0.94, 0.88, 0.81]}, keys="other")
    found = check(baseline(cell), baseline(now), GateTable())
    (item,) = found.having("undecided")
    assert found.exit_code == 3
    assert item.more_seeds is not None
    assert 0 < item.more_seeds[0] <= item.more_seeds[1]
    assert item.low is not None
    assert item.high is not None
    assert item.allowance is not None
    assert item.low < -item.allowance
    assert item.high > -1
    assert check(baseline(cell), baseline(now), GateTable.model_validate({"undecided": "pass"})).exit_code == 0
    strict = check(baseline(cell), baseline(group({"pruned_top1": [0.6] * 5}, keys="k2")), GateTable(undecided="pass"))
    assert strict.exit_code == 1


def test_leeway_is_the_baselines_spread_and_never_more_than_max_drop() -> None:
    was = {"pruned_top1": [0.90, 0.92, 0.91, 0.93, 0.89]}
    now = {"pruned_top1": [0.91, 0.90, 0.92, 0.92, 0.90]}
    std = 100 * float(np.std(was["pruned_top1"], ddof=1))
    assert compare(was, now, leeway=2.0, keys="o").allowance == pytest.approx(1 + 2 * std, rel=0.1)
    assert compare(was, now, leeway=0.0, keys="o").allowance == 1
    assert compare(was, now, leeway=50.0, max_drop=4.0, keys="o").allowance == 4


def test_the_spread_of_a_regression_does_not_protect_it() -> None:
    """Four of five networks at chance: no test on means would see it."""
    was = {"pruned_top1": [0.90, 0.92, 0.91, 0.93, 0.89]}
    collapsed = {"pruned_top1": [0.1, 0.1, 0.91, 0.1, 0.1]}
    found = check(baseline(group(was)), baseline(group(collapsed, keys="o")), GateTable())
    rules = {item.rule: item for item in found.having("regressed")}
    assert found.exit_code == 1
    assert {"cap"} <= rules.keys()
    (drop,) = found.largest_drops
    assert drop.difference == pytest.approx(-64.8)


def test_a_cap_takes_a_drop_that_no_test_can_show() -> None:
    was, now = {"pruned_top1": [0.90, 0.901, 0.899]}, {"pruned_top1": [0.90, 0.901, 0.58]}
    assert [i.rule for i in check(baseline(group(was)), baseline(group(now)), GateTable()).having("regressed")] == [
        "cap"
    ]
    wide = GateTable.model_validate({"max_drop": 11.0})
    assert check(baseline(group(was)), baseline(group(now)), wide).having("regressed") == []


def test_collapses_are_counted_where_means_are_near_chance() -> None:
    """16 against 10 %: a drop of 6 points, which neither cap nor a cautious test need see."""
    rules = GateTable.model_validate({"pruned_top1": {"tolerance": 9.0}})
    was = [0.16, 0.17, 0.15, 0.155, 0.165]

    def judged(count: int, n: int = 5) -> str:
        now = [0.1] * count + [0.16, 0.17, 0.15, 0.155, 0.165] * 2
        sides = (baseline(group({"pruned_top1": values})) for values in ((was * 2)[:n], now[:n]))
        return next(item.status for item in check(*sides, rules).items if item.rule == "collapse")

    assert [judged(count) for count in (1, 2, 3, 4, 5)] == ["held", "held", "undecided", "undecided", "regressed"]
    assert judged(6, n=10) == "regressed"


def test_what_is_hardly_above_chance_says_nothing_and_is_not_held() -> None:
    at_chance = {"pruned_top1": [0.1, 0.11, 0.1, 0.15, 0.1]}
    silent = (baseline(group(at_chance), group({"pruned_top1": [0.9, 0.91, 0.92, 0.9, 0.91]}, ratio=0.3)),)
    now = baseline(
        group({"pruned_top1": [0.1, 0.1, 0.1, 0.1, 0.1]}, keys="o"),
        group({"pruned_top1": [0.91, 0.9, 0.92, 0.9, 0.91]}, keys="o", ratio=0.3),
    )
    found = check(*silent, now, GateTable())
    assert found.exit_code == 0
    (skipped,) = found.having("skipped")
    assert (skipped.name.split("/")[-1], skipped.note) == ("0.5", "says nothing: the baseline is hardly above chance")
    alone = check(baseline(group(at_chance)), baseline(group(at_chance, keys="o")), GateTable())
    assert alone.exit_code == 3  # nothing is compared
    assert [gap.partition(":")[0] for gap in alone.gaps] == ["digits/resnet8/adam"]


def test_an_optimizer_of_which_nothing_can_get_worse_stops_a_green_gate() -> None:
    dead, alive = {"pruned_top1": [0.1, 0.11, 0.1, 0.12, 0.1]}, {"pruned_top1": [0.9, 0.91, 0.92, 0.9, 0.91]}
    sides = [group(dead, optimizer="dead"), group(alive, optimizer="alive")]
    found = check(baseline(*sides), baseline(*sides), GateTable())
    assert (found.exit_code, len(found.having("regressed", "undecided"))) == (3, 0)
    (gap,) = found.gaps
    assert gap.startswith("digits/resnet8/dead: nothing to compare: ")
    assert hardly_above_chance(baseline(*sides)) == ["digits/resnet8/dead/magnitude/0.5"]


@pytest.mark.parametrize(
    ("was", "now", "status"),
    [
        ([0.3, 0.3, 0.3, 0.3, 0.1], [0.3, 0.3, 0.1, 0.1, 0.1], "undecided"),  # most guess
        ([0.3] * 9 + [0.1], [0.3] * 6 + [0.1] * 4, "undecided"),  # three of ten fell, none left it
        ([0.3] * 9 + [0.1], [0.3] * 7 + [0.1] * 3, "undecided"),  # two of ten
        ([0.3] * 9 + [0.1], [0.1] + [0.3] * 8 + [0.3], "held"),
    ],
)
def test_seeds_that_fall_to_chance_are_seen_though_others_were_there(was: Any, now: Any, status: str) -> None:
    rules = GateTable.model_validate({"pruned_top1": {"tolerance": 40.0}})
    sides = (baseline(group({"pruned_top1": values}, keys=key)) for values, key in ((was, "k"), (now, "o")))
    found = check(*sides, rules)
    assert found.exit_code == (3 if status == "undecided" else 0)
    kinds = {item.status for item in found.items if item.rule == "collapse"}
    assert ("undecided" in kinds) == (status == "undecided")


def test_a_network_that_never_trained_counts_at_chance_pruned_or_not() -> None:
    cell = group({"pruned_top1": [0.6, 0.61, 0.62]})
    lucky = group({"pruned_top1": [0.6, 0.61, 0.62]}, keys="o")
    was, now = (group({"dense_top1": values}, pruner=None) for values in ([0.9, 0.91, 0.92], [0.9, 0.91, 0.11]))
    found = check(baseline(cell, trials=(was,)), baseline(lucky, trials=(now,)), GateTable())
    assert {(item.metric, item.rule) for item in found.having("regressed")} == {
        ("dense_top1", "cap"),
        ("pruned_top1", "cap"),
    }


def test_curves_are_tested_and_single_ratios_are_capped() -> None:
    cells = [group({"pruned_top1": [0.9, 0.91, 0.92]}, ratio=ratio) for ratio in (0.3, 0.5)]
    worse = group({"pruned_top1": [0.7, 0.71, 0.72]}, ratio=0.5, keys="o")
    found = check(baseline(*cells), baseline(cells[0], worse), GateTable())
    statuses = {(item.rule, item.name): item.status for item in found.items}
    curve = "digits/resnet8/adam/magnitude"
    assert statuses == {
        ("statistical, paired", curve): "regressed",
        ("cap", f"{curve}/0.3"): "unchanged",
        ("cap", f"{curve}/0.5"): "regressed",
    }


def test_seeds_are_paired_where_they_are_the_same() -> None:
    was = [0.70, 0.80, 0.90, 0.85]
    now = [0.66, 0.759, 0.861, 0.809]
    paired = compare({"pruned_top1": was}, {"pruned_top1": now})
    assert (paired.rule, paired.status) == ("statistical, paired", "regressed")
    others = baseline(group({"pruned_top1": now}, seeds=(4, 5, 6, 7)))
    item = check(baseline(group({"pruned_top1": was})), others, GateTable()).items[0]
    assert (item.rule, item.status) == ("statistical, unpaired", "undecided")  # four points drown in the seeds


def test_what_no_seed_moves_is_judged_by_the_tolerance_or_by_the_counted_images() -> None:
    item = compare({"bytes": [1000.0] * 3}, {"bytes": [1020.0] * 3})
    assert (item.rule, item.status, item.p) == ("tolerance", "regressed", None)
    accuracy = compare({"pruned_top1": [0.9] * 3}, {"pruned_top1": [0.8] * 3})
    assert accuracy.status == "regressed"
    assert accuracy.p is not None
    assert accuracy.p < 0.05


def test_fewer_than_three_seeds_are_judged_by_a_wide_tolerance_and_say_so() -> None:
    def two(now: float, **rules: Any) -> Outcome:
        sides = (baseline(group({"pruned_top1": [value, value]})) for value in (0.9, now))
        return check(*sides, GateTable.model_validate(rules))

    assert two(0.86).exit_code == 0
    assert two(0.84).exit_code == 1
    assert two(0.88, pruned_top1={"tolerance": 1.0}).exit_code == 1
    assert any("fewer than 3 seeds show no spread" in note for note in two(0.86).notes)
    with pytest.raises(InputError, match=r"gate\.pruned_top1\.rule: 'statistical' needs 3 seeds"):
        two(0.86, pruned_top1={"rule": "statistical"})


def test_the_exact_rule_wants_the_same_number_from_the_same_key() -> None:
    exact = {"retention": {"rule": "exact"}}
    was = {"retention": [0.9, 0.91]}
    assert compare(was, was, **exact).status == "unchanged"
    item = compare(was, {"retention": [0.9, 0.9100001]}, **exact)
    assert (item.status, item.note) == ("regressed", "other numbers for seeds 1")
    assert compare(was, {"retention": [0.9, 0.95]}, keys="other", **exact).status == "skipped"


def test_another_environment_is_reported_and_skips_what_must_be_exact() -> None:
    other = {**ENVIRONMENT, "packages": {"torch": "1"}, "cpu": "y"}
    sides = baseline(group({"bytes": [90, 91]}), environment=other), baseline(group({"bytes": [90, 91.5]}))
    found = check(*sides, GateTable.model_validate({"bytes": {"rule": "exact"}}))
    assert "environment: cpu: y in the baseline, x now" in found.notes
    assert "environment: torch: 1 in the baseline, 2 now" in found.notes
    assert [item.status for item in found.items] == ["skipped"]
    assert "another environment" in found.items[0].note
    assert (found.exit_code, found.gaps) == (3, ("nothing to compare: every rule is off or was skipped",))
    assert check(*sides, GateTable()).exit_code == 0


def test_other_code_is_reported_and_skips_nothing() -> None:
    before, after = ({**ENVIRONMENT, "code": code * 12, "commit": code * 40} for code in "ab")
    sides = (
        baseline(group({"bytes": [90, 91]}), environment=before),
        baseline(group({"bytes": [90, 95]}), environment=after),
    )
    found = check(*sides, GateTable.model_validate({"bytes": {"rule": "exact"}}))
    assert f"environment: code: {'a' * 12} in the baseline, {'b' * 12} now" in found.notes
    assert [item.status for item in found.items] == ["regressed"]


def test_speed_is_off_and_only_compared_on_the_same_device() -> None:
    fast, slow = {"images_per_s": [900.0, 901.0, 903.0]}, {"images_per_s": [90.0, 92.0, 91.0]}
    assert check(baseline(group(fast)), baseline(group(slow)), GateTable()).items == ()
    on = GateTable.model_validate({"images_per_s": {"rule": "tolerance"}})
    assert check(baseline(group(fast)), baseline(group(slow)), on).exit_code == 1
    elsewhere = baseline(group(fast), environment={**ENVIRONMENT, "cpu": "y"})
    assert [item.status for item in check(elsewhere, baseline(group(slow)), on).items] == ["skipped"]


def test_floors_bound_the_mean_whatever_the_baseline_says() -> None:
    same = baseline(group({"retention": [0.8, 0.9]}), group({"retention": [0.95, 0.97]}, ratio=0.2))

    def judge(*floors: str) -> list[tuple[str, str]]:
        found = check(same, same, GateTable(floors=floors))
        return [(item.name, item.status) for item in found.items if item.rule.startswith("floor")]

    half, fifth = "digits/resnet8/adam/magnitude/0.5", "digits/resnet8/adam/magnitude/0.2"
    assert judge("retention >= 0.85 at ratio 0.5") == [(half, "held")]
    assert judge("retention >= 0.86") == [(half, "regressed"), (fifth, "held")]
    assert judge("retention >= 0.86 for */0.2") == [(fifth, "held")]
    with pytest.raises(InputError, match="about no trial or cell"):
        judge("retention >= 0.86 at ratio 0.3")
    unmeasured = check(same, same, GateTable(floors=("bytes <= 1000 at ratio 0.5",)))
    assert (unmeasured.exit_code, len(unmeasured.gaps)) == (3, 1)


@pytest.mark.parametrize(
    ("floor", "message"),
    [
        ("retention > 0.9", "a floor is e.g."),
        ("retenton >= 0.9", "did you mean 'retention'"),
        ("retention <= 0.9", "write retention >="),
        ("bytes >= 9", "write bytes <="),
        ("retention >= 90", "a fraction from 0 to 1"),
        ("retention >= 0.9.1", "not a number"),
        ("dense_top1 >= 0.9 at ratio 0.5", "not pruned"),
    ],
)
def test_a_floor_that_cannot_be_read_is_refused(floor: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_floor(floor)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[gate.retenton]\ntolerance = 1.0", "gate.retenton: unknown key; did you mean 'retention'"),
        ("[gate.retention]\ntolerence = 1.0", "gate.retention.tolerence: unknown key; did you mean 'tolerance'"),
        ("[gate.retention]\ntolerance = -1", "gate.retention.tolerance"),
        ("[gate.retention]\nrule = 'maybe'", "gate.retention.rule"),
        ("[gate.bytes]\nrule = 'statistical'", "gate: bytes.rule: 'statistical' is for dense_top1 and pruned_top1"),
        ("[gate]\nundecided = 'maybe'", "gate.undecided"),
        ("[gate]\nmax_drop = 0", "gate.max_drop"),
        ("[gate.retention]\nrule = 'off'\ntolerance = 1.0", "gate.retention: tolerance: rule 'off' has none"),
        ("[gate]\nfloors = ['retention > 1']", "gate.floors 1: a floor is e.g."),
        ("[gate]\nfloors = 'retention >= 0.5'", "gate.floors: must be a list"),
    ],
)
def test_a_gate_that_is_wrong_is_refused_in_one_line(tiny: Path, table: str, message: str) -> None:
    tiny.write_text(f"{tiny.read_text()}\n{table}\n")
    with pytest.raises(InputError) as refusal:
        load_suite(tiny)
    assert message in str(refusal.value)


def test_the_gate_enters_no_key_and_can_be_set(tiny: Path) -> None:
    plain = make_plan(load_suite(tiny), Path("data"))
    tiny.write_text(tiny.read_text() + "\n[gate]\nfloors = ['retention >= 0.5']\n")
    suite = load_suite(tiny, ["gate.retention.tolerance=3", "gate.bytes.rule=off"])
    assert (suite.gate.retention.tolerance, suite.gate.bytes.rule) == (3.0, "off")
    gated = make_plan(suite, Path("data"))
    assert [trial.key for trial in gated.trials] == [trial.key for trial in plain.trials]
    assert [cell.key for _, cell in gated.cells()] == [cell.key for _, cell in plain.cells()]


def test_a_gate_with_fewer_seeds_than_its_baseline_is_not_green() -> None:
    was = baseline(group({"pruned_top1": [0.90, 0.91, 0.92]}))
    one = check(was, baseline(group({"pruned_top1": [0.87]})), GateTable())
    assert one.exit_code == 3
    assert one.gaps == ("fewer seeds: 1 in the suite, 3 in the baseline; make a new baseline if that is meant",)
    other = check(was, baseline(group({"pruned_top1": [0.90, 0.91, 0.92]}, seeds=[7, 8, 9])), GateTable())
    assert other.exit_code == 0


def test_what_the_baseline_did_not_measure_is_reported() -> None:
    was = baseline(group({"pruned_top1": [0.90, 0.91]}))
    now = baseline(group({"pruned_top1": [0.90, 0.91], "retention": [0.5, 0.6]}))
    (note,) = check(was, now, GateTable()).notes
    assert note.startswith("not measured in the baseline, so not compared: 1 trial or cell (digits/resnet8/adam/")


def test_a_floor_about_what_is_not_selected_is_left_out() -> None:
    now = baseline(group({"pruned_top1": [0.90, 0.91]}))
    rules = GateTable.model_validate({"floors": ["pruned_top1 >= 0.5 for */sgd/*"]})
    assert check(now, now, rules, partial=True).exit_code == 0
    with pytest.raises(InputError, match="is about no trial or cell"):
        check(now, now, rules)
