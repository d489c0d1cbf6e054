"""The outcome of a gate as text, Markdown, JSON, JUnit XML and GitHub annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Literal
from xml.etree import ElementTree

from sgabench.evidence.decisions import MOST_SEEDS
from sgabench.evidence.intervals import ALPHA
from sgabench.evidence.revisions import enumerated
from sgabench.gate.baseline import Spread
from sgabench.gate.items import Item, Outcome
from sgabench.report.markdown import escape
from sgabench.suite.rules import METRICS

Format = Literal["text", "markdown", "json", "junit", "github"]
ANNOTATIONS = 9  # GitHub shows ten of a kind per step; the first is the verdict
SHOWN = 50


def render(outcome: Outcome, form: Format, baseline: str = "the baseline") -> str:
    """Render the outcome of a gate as a string that ends with a newline.

    Args:
        outcome: of the gate.
        form: the format.
        baseline: the file that it compared with.
    """
    formats: dict[Format, Callable[[Outcome, str], str]] = {
        "text": text,
        "markdown": markdown,
        "json": as_json,
        "junit": junit,
        "github": github,
    }
    return formats[form](outcome, baseline)


def verdict(outcome: Outcome) -> str:
    """One line: what came of it."""
    regressed = len(outcome.having("regressed"))
    if regressed:
        return f"REGRESSED: {regressed} of {_checks(outcome.compared)}"
    if not outcome.compared:
        return "NOTHING COMPARED"
    undecided = len(outcome.having("undecided"))
    if outcome.gaps:
        return f"INCOMPLETE: {_checks(outcome.compared - undecided)} held, but not all could be made"
    skipped = len(outcome.having("skipped"))
    unjudged = f"; {skipped} could not be judged" if skipped else ""  # nobody reads on below a plain green
    if not undecided:
        return f"PASSED: {_checks(outcome.compared)}, nothing regressed{unjudged}"
    if outcome.accepts_undecided:
        return f"PASSED: {undecided} of {_checks(outcome.compared)} undecided, which the suite accepts{unjudged}"
    return f"UNDECIDED: {undecided} of {_checks(outcome.compared)}; neither a loss is shown, nor that there is none"


def _checks(number: int) -> str:
    return f"{number} check{'' if number == 1 else 's'}"


def summary(outcome: Outcome) -> str:
    """The number of checks by their outcome."""
    words = {"regressed": "regressed", "undecided": "undecided", "improved": "improved", "held": "within their rules"}
    words |= {"unchanged": "the same to the last digit", "skipped": "skipped"}
    counts = [
        f"{number} {word}"
        for status, word in words.items()
        if (number := sum(item.status == status for item in outcome.items))
    ]
    return ", ".join(counts) or "no checks"


def text(outcome: Outcome, baseline: str) -> str:
    """The verdict, the largest drops, then changes, then what could not be compared, then notes."""
    lines = [f"{verdict(outcome)} (suite {outcome.suite}, against {baseline})", *largest_drops(outcome), ""]
    changed = _changed(outcome)
    for item in changed[:SHOWN]:
        lines += [f"{item.status:9}  {title(item)}  {item.name}", f"{'':9}  {describe(item)}"]
    lines += _more(changed) + [""] * bool(changed)
    lines += [*outcome.gaps[:SHOWN], *_more(outcome.gaps)] + [""] * bool(outcome.gaps)
    lines += [f"skipped: {line}" for line in _skipped(outcome)] + [f"note: {line}" for line in outcome.notes]
    lines.append(summary(outcome))
    if any(item.p is not None for item in changed):
        lines.append(_statement())
    return "".join(_printable(line).rstrip() + "\n" for line in lines)


def _changed(outcome: Outcome) -> list[Item]:
    return [item for status in ("regressed", "undecided", "improved") for item in outcome.having(status)]


def largest_drops(outcome: Outcome) -> list[str]:
    """A line for each of the networks that lost most, whatever the rules."""
    lines = []
    for item in outcome.largest_drops:
        assert item.was is not None
        assert item.now is not None
        moved = f"{100 * item.was.mean:.1f} to {100 * item.now.mean:.1f} %"
        lines.append(f"largest drop: {item.difference:+.1f} points  {title(item)}  {item.name}  ({moved})")
    return lines or ["largest drop: no accuracy dropped"]


def _more(shown: Any) -> list[str]:
    return [f"... and {len(shown) - SHOWN} more; --format json has all"] if len(shown) > SHOWN else []


def _skipped(outcome: Outcome) -> list[str]:
    """Why something was skipped, and what."""
    reasons: dict[str, list[str]] = {}
    for item in outcome.having("skipped"):
        reasons.setdefault(f"{METRICS[item.metric].title}: {item.note}", []).append(item.name)
    return [f"{reason} ({_checks(len(names))}: {enumerated(names)})" for reason, names in reasons.items()]


def _statement() -> str:
    return (
        "p and the upper limits are corrected for all tests of the gate: where nothing but noise moved, "
        f"{100 * ALPHA:g} % of gates are red, or fewer. Each lower limit holds with {100 * (1 - ALPHA):g} %; what is "
        "green lost less than the allowance."
    )


def title(item: Item) -> str:
    """The name of a metric for readers."""
    return METRICS[item.metric].title if item.metric in METRICS else item.metric


def describe(item: Item) -> str:
    """Was, is, difference, rule, in one line."""
    parts = [f"was {spread(item.metric, item.was)}"] if item.was else []
    parts += [f"is {spread(item.metric, item.now)}"] if item.now else []
    if item.difference is not None:
        parts.append(difference(item))
    summary = ", ".join(parts)
    return f"{summary}; {judged(item)}" if summary else judged(item)


def judged(item: Item) -> str:
    """The rule and its result."""
    words = item.rule
    if item.margin is not None:
        amount = _in_units(item, item.margin)
        words = {"tolerance": f"tolerance {amount}", "cap": f"cap {amount}"}.get(words, f"{words}, tolerance {amount}")
    if item.allowance is not None:
        words += f", allowance {_in_units(item, item.allowance)}"
    if item.p is not None:
        words += f", p {'< 0.0001' if item.p < 0.0001 else f'= {item.p:.2g}'}"
    if item.more_seeds is not None:
        words += f"; {_seeds(*item.more_seeds)} would decide a difference like this one"
    return f"{words} ({item.note})" if item.note else words


def _in_units(item: Item, amount: float) -> str:
    unit = METRICS[item.metric].unit
    return f"{round(amount, 1):g} {unit.removesuffix('s') if amount == 1 else unit}"


def _seeds(even: int, sure: int) -> str:
    if even >= MOST_SEEDS:
        return f"{MOST_SEEDS} more seeds or even more"
    most = f"{MOST_SEEDS} or more" if sure >= MOST_SEEDS else str(sure)
    return f"{even} more seed{'s' if even > 1 else ''}" if even == sure else f"{even} to {most} more seeds"


def spread(metric: str, values: Spread) -> str:
    """Mean, standard deviation and n."""
    facts = METRICS[metric]
    if facts.unit == "points":
        mean, std = f"{100 * values.mean:.1f}", f" ± {100 * (values.std or 0):.1f}"
        unit = " %"
    else:
        mean, std, unit = _amount(values.mean), f" ± {_amount(values.std or 0)}", ""
    return f"{mean}{std if values.std else ''}{unit} (n = {values.n})"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def difference(item: Item) -> str:
    """Now - was with its interval, in the metric's unit."""
    assert item.difference is not None
    unit = METRICS[item.metric].unit
    interval = "" if item.low is None or item.high is None else f" [{item.low:+.1f}, {item.high:+.1f}]"
    return f"{item.difference:+.1f} {unit}{interval}"


def markdown(outcome: Outcome, baseline: str) -> str:
    """A comment of a pull request, and a summary of a job."""
    what = f"Suite `{_code(outcome.suite)}` against `{_code(baseline)}`: {summary(outcome)}."
    lines = [f"### sgabench gate: {verdict(outcome)}", "", what, ""]
    lines += [f"- {escape(_printable(line))}" for line in largest_drops(outcome)]
    lines += [f"- skipped: {escape(_printable(line))}" for line in _skipped(outcome)]
    changed = _changed(outcome)
    if changed:
        lines += ["", "| | metric | cell | was | is | difference | rule |", "|---|---|---|---:|---:|---:|---|"]
        lines += [_row(item) for item in changed[:SHOWN]] + [f"\n{line}" for line in _more(changed)]
    gaps = [*outcome.gaps[:SHOWN], *_more(outcome.gaps)]
    lines += ["", "**Not compared**", "", *(f"- {escape(_printable(line))}" for line in gaps)] if gaps else []
    notes = [*outcome.notes]
    if any(item.p is not None for item in changed):
        notes.append(_statement())
    if notes:
        lines += ["", f"<details><summary>Notes ({len(notes)})</summary>", ""]
        lines += [*(f"- {escape(_printable(line))}" for line in notes), "", "</details>"]
    return "\n".join(lines) + "\n"


def _row(item: Item) -> str:
    cells = (
        f"**{item.status}**" if item.status in ("regressed", "undecided") else item.status,
        escape(title(item)),
        escape(_printable(item.name)),
        spread(item.metric, item.was) if item.was else "",
        spread(item.metric, item.now) if item.now else "",
        escape(difference(item)) if item.difference is not None else "",
        escape(judged(item)),
    )
    return f"| {' | '.join(cells)} |"


def _code(words: str) -> str:
    return _printable(words).replace("`", "'")


def as_json(outcome: Outcome, baseline: str) -> str:
    """Everything, a line for each check."""
    head = {
        "verdict": verdict(outcome),
        "exit_code": outcome.exit_code,
        "suite": outcome.suite,
        "baseline": baseline,
        "largest_drops": [
            {"metric": item.metric, "name": item.name, "difference": item.difference} for item in outcome.largest_drops
        ],
        "gaps": outcome.gaps,
        "notes": outcome.notes,
    }
    checks = ",\n  ".join(json.dumps(_plain(item), allow_nan=False) for item in outcome.items)
    shown = f"[\n  {checks}\n ]" if checks else "[]"
    body = json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}")
    return body + f',\n "checks": {shown}\n' + "}\n"


def _plain(item: Item) -> dict[str, Any]:
    sides = {"was": item.was and item.was.model_dump(mode="json"), "now": item.now and item.now.model_dump(mode="json")}
    return {**vars(item), **sides}


def junit(outcome: Outcome, baseline: str) -> str:
    """A test case for each check, and for each thing that could not be compared."""
    kinds = {"regressed": "failure", "skipped": "skipped"}
    kinds["undecided"] = "skipped" if outcome.accepts_undecided else "failure"
    ends = [kinds.get(item.status) for item in outcome.items]
    counts = {
        "tests": len(outcome.items) + len(outcome.gaps),
        "failures": ends.count("failure"),
        "errors": len(outcome.gaps),
        "skipped": ends.count("skipped"),
    }
    suites = ElementTree.Element("testsuites", {name: str(number) for name, number in counts.items()})
    attributes = {name: str(number) for name, number in counts.items()}
    suite = ElementTree.SubElement(suites, "testsuite", {"name": f"sgabench gate {outcome.suite}", **attributes})
    for item in outcome.items:
        case = _case(suite, item.name, item.label)
        if kind := kinds.get(item.status):
            message = ("undecided: " if item.status == "undecided" else "") + describe(item)
            ElementTree.SubElement(case, kind, {"message": _printable(message)})
    for number, gap in enumerate(outcome.gaps, start=1):
        ElementTree.SubElement(_case(suite, "not compared", str(number)), "error", {"message": _printable(gap)})
    skipped = [f"skipped: {line}" for line in _skipped(outcome)]
    text = "\n".join([*largest_drops(outcome), *skipped, *outcome.notes])
    ElementTree.SubElement(suite, "system-out").text = _printable(text, keep="\n")
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, classname: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", {"classname": _printable(classname), "name": _printable(name)})


def github(outcome: Outcome, baseline: str) -> str:
    """Workflow commands: errors and notices that GitHub shows beside a job and a pull request."""
    head = f"{verdict(outcome)} (suite {outcome.suite}, against {baseline}); {summary(outcome)}"
    red = outcome.exit_code != 0
    lines = [_command("error" if red else "notice", "sgabench gate", head)]
    errors = [(f"{title(item)} {item.name}", describe(item)) for item in outcome.having("regressed")]
    errors += [("not compared", gap) for gap in outcome.gaps]
    open_ = [(f"undecided: {title(item)} {item.name}", describe(item)) for item in outcome.having("undecided")]
    notices = [("largest drops", "; ".join(line.removeprefix("largest drop: ") for line in largest_drops(outcome)))]
    (notices if outcome.accepts_undecided else errors).extend(open_)
    lines += [_command("warning", "skipped", line) for line in _skipped(outcome)[:ANNOTATIONS]]
    notices += [(f"improved: {title(item)} {item.name}", describe(item)) for item in outcome.having("improved")]
    notices += [("note", note) for note in outcome.notes]
    for kind, found, room in (("error", errors, ANNOTATIONS), ("notice", notices, ANNOTATIONS + red)):
        cut = found if len(found) <= room else found[: room - 1]
        lines += [_command(kind, *entry) for entry in cut]
        if len(cut) < len(found):
            rest = f"{len(found) - len(cut)} more; sgabench check --format text shows them"
            lines.append(_command(kind, "and more", rest))
    return "\n".join(lines) + "\n"


def _command(kind: str, heading: str, message: str) -> str:
    def escaped(words: str, characters: Iterable[str]) -> str:
        for character in characters:
            words = words.replace(character, f"%{ord(character):02X}")
        return words

    return f"::{kind} title={escaped(_printable(heading), '%:,')}::{escaped(_printable(message), '%')}"


def _printable(words: str, keep: str = "") -> str:
    """Without control characters: names come from files of others."""
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in words)
