"""The formats of the gate: what leads, what is left out, and names that mean harm."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from sgabench.gate.baseline import Spread
from sgabench.gate.items import Item, Outcome
from sgabench.report.gate import ANNOTATIONS, SHOWN, Format, render, verdict

WAS, NOW = Spread.of([0.9, 0.92]), Spread.of([0.8, 0.84])
RED = Item("pruned_top1", "d/m/o/p/0.5", "statistical, paired", "regressed", WAS, NOW, -9.0, -12.04, -5.96, 0.012, 0.5)
RED = replace(RED, allowance=3.25)
CAPPED = replace(RED, rule="cap", status="held", low=None, high=None, p=None, margin=10.0, allowance=None)
OPEN = replace(RED, status="undecided", difference=-2.0, low=-7.0, high=1.5, p=0.3, more_seeds=(4, 12))
HELD = Item("bytes", "d/m/o/p/0.5", "tolerance", "held", Spread.of([4000.0]), Spread.of([4001.0]), 0.025, margin=1.0)
SKIPPED = replace(HELD, metric="images_per_s", status="skipped", note="on another device")


def outcome(*items: Item, gaps: tuple[str, ...] = (), notes: tuple[str, ...] = ()) -> Outcome:
    return Outcome("s", items, gaps, notes)


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        (outcome(HELD), 0, "PASSED: 1 check, nothing regressed"),
        (outcome(HELD, SKIPPED), 0, "PASSED: 1 check, nothing regressed; 1 could not be judged"),
        (outcome(HELD, RED), 1, "REGRESSED: 1 of 2 checks"),
        (outcome(HELD, RED, gaps=("x",)), 1, "REGRESSED: 1 of 2 checks"),
        (outcome(HELD, gaps=("x",)), 3, "INCOMPLETE: 1 check held, but not all could be made"),
        (outcome(SKIPPED, gaps=("x",)), 3, "NOTHING COMPARED"),
        (
            outcome(HELD, OPEN),
            3,
            "UNDECIDED: 1 of 2 checks; neither a loss is shown, nor that there is none",
        ),
        (outcome(HELD, OPEN, RED), 1, "REGRESSED: 1 of 3 checks"),
        (outcome(HELD, OPEN, gaps=("x",)), 3, "INCOMPLETE: 1 check held, but not all could be made"),
        (
            replace(outcome(HELD, OPEN), accepts_undecided=True),
            0,
            "PASSED: 1 of 2 checks undecided, which the suite accepts",
        ),
    ],
)
def test_the_verdict_leads_every_format_and_goes_with_the_exit_code(found: Outcome, code: int, words: str) -> None:
    assert (found.exit_code, verdict(found)) == (code, words)
    assert render(found, "text", "b.json").startswith(f"{words} (suite s, against b.json)\n")
    assert render(found, "markdown").startswith(f"### sgabench gate: {words}\n")
    assert render(found, "github").startswith(f"::{'error' if code else 'notice'} title=sgabench gate::{words} ")
    read = json.loads(render(found, "json"))
    assert (read["verdict"], read["exit_code"], len(read["checks"])) == (words, code, len(found.items))


def test_only_what_changed_is_shown() -> None:
    text = render(outcome(HELD, OPEN, CAPPED, RED, SKIPPED, notes=("n",)), "text")
    assert text.splitlines()[1:] == [
        "largest drop: -9.0 points  pruned top-1  d/m/o/p/0.5  (91.0 to 82.0 %)",
        "",
        "regressed  pruned top-1  d/m/o/p/0.5",
        "           was 91.0 ± 1.4 % (n = 2), is 82.0 ± 2.8 % (n = 2), -9.0 points [-12.0, -6.0]; "
        "statistical, paired, tolerance 0.5 points, allowance 3.2 points, p = 0.012",
        "undecided  pruned top-1  d/m/o/p/0.5",
        "           was 91.0 ± 1.4 % (n = 2), is 82.0 ± 2.8 % (n = 2), -2.0 points [-7.0, +1.5]; "
        "statistical, paired, tolerance 0.5 points, allowance 3.2 points, p = 0.3; 4 to 12 more seeds would decide a "
        "difference like this one",
        "",
        "skipped: throughput: on another device (1 check: d/m/o/p/0.5)",
        "note: n",
        "1 regressed, 1 undecided, 2 within their rules, 1 skipped",
        "p and the upper limits are corrected for all tests of the gate: where nothing but noise moved, 5 % of gates "
        "are red, or fewer. Each lower limit holds with 95 %; what is green lost less than the allowance.",
    ]
    assert "size" not in render(outcome(HELD, RED), "markdown")


@pytest.mark.parametrize("form", ["text", "markdown", "json", "junit", "github"])
def test_the_largest_drops_are_reported_in_every_format_also_when_all_is_green(form: Format) -> None:
    drops = [replace(CAPPED, name=f"d/m/o/p/0.{place}", difference=-float(place)) for place in range(1, 7)]
    rendered = render(outcome(HELD, *drops), form)
    assert [f"d/m/o/p/0.{place}" in rendered.partition('"checks"')[0] for place in (6, 5, 4)] == [True] * 3
    if form in ("text", "markdown", "github"):
        assert "-6.0 points" in rendered
        assert "d/m/o/p/0.3" not in rendered
    if form in ("text", "markdown", "junit", "github"):
        assert "no accuracy dropped" in render(outcome(HELD), form)
    else:
        assert json.loads(render(outcome(HELD), form))["largest_drops"] == []


@pytest.mark.parametrize("form", ["text", "markdown", "json", "junit", "github"])
def test_what_could_not_be_judged_is_named_where_all_is_green(form: Format) -> None:
    silent = [replace(SKIPPED, name=f"d/m/o/p/0.{place}") for place in range(1, 6)]
    rendered = render(outcome(HELD, *silent), form)
    if form == "json":
        assert sum(check["status"] == "skipped" for check in json.loads(rendered)["checks"]) == 5
    else:
        assert "on another device (5 checks: d/m/o/p/0.1, d/m/o/p/0.2, d/m/o/p/0.3 and 2 more)" in rendered
    if form == "github":
        assert rendered.splitlines()[1].startswith("::warning title=skipped::")


def test_json_has_every_number() -> None:
    check = json.loads(render(outcome(RED), "json"))["checks"][0]
    assert check["was"] == {"mean": 0.91, "std": 0.0141421, "n": 2, "values": [0.9, 0.92]}
    assert (check["difference"], check["low"], check["high"], check["p"]) == (-9.0, -12.04, -5.96, 0.012)


def test_junit_counts_what_it_has() -> None:
    floor = replace(RED, metric="retention", rule="floor retention >= 0.9", was=None)
    found = outcome(RED, floor, HELD, SKIPPED, OPEN, gaps=("gone",))
    suite = ElementTree.fromstring(render(found, "junit"))[0]
    kinds = {"failure": "failures", "error": "errors", "skipped": "skipped"}
    for kind, attribute in kinds.items():
        assert suite.get(attribute) == str(len(list(suite.iter(kind))))
    assert suite.get("tests") == str(len(list(suite.iter("testcase")))) == "6"
    assert [case.get("name") for case in suite.iter("testcase")][:2] == [
        "pruned_top1",
        "retention floor retention >= 0.9",
    ]
    assert (suite.get("failures"), suite.get("skipped")) == ("3", "1")
    accepted = ElementTree.fromstring(render(replace(found, accepts_undecided=True), "junit"))[0]
    assert (accepted.get("failures"), accepted.get("skipped")) == ("2", "2")


def test_many_regressions_fit_where_there_is_little_room() -> None:
    many = outcome(*(replace(RED, name=f"d/m/o/p{number}/0.5") for number in range(200)))
    errors = [line for line in render(many, "github").splitlines() if line.startswith("::error")]
    assert len(errors) == ANNOTATIONS + 1
    assert f"{200 - ANNOTATIONS + 1} more" in errors[-1]
    for form in ("text", "markdown"):
        shown = render(many, form)  # type: ignore[arg-type]
        assert shown.count("d/m/o/p") == SHOWN
        assert f"... and {200 - SHOWN} more" in shown


def test_names_cannot_do_harm() -> None:
    evil = "a|b<script>\x1b[31m%0A::error::x\n::stop-commands::y"
    found = outcome(replace(RED, name=evil), replace(CAPPED, name=evil), gaps=(evil,), notes=(evil,))
    for form in ("text", "markdown", "github", "junit", "json"):
        assert "\x1b" not in render(found, form)  # type: ignore[arg-type]
    for line in render(found, "github").splitlines():
        assert line.startswith(("::error title=", "::notice title="))
        assert "%250A" in line or "sgabench gate" in line
    markdown = render(found, "markdown")
    assert "<script>" not in markdown
    assert r"a\|b" in markdown
    assert len(ElementTree.fromstring(render(found, "junit"))[0].findall("testcase")) == 3
