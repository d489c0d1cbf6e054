from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from study import Study

from sgabench.report.formats import render
from sgabench.report.latex import escape, number


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("50 % & $x$ #1 a_b {c}", r"50 \% \& \$x\$ \#1 a\_b \{c\}"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ('<script>|"', r"\textless{}script\textgreater{}\textbar{}\textquotedbl{}"),
        ("two\n\nlines", "two lines"),
        ("65.0 ± 7.1", r"65.0 $\pm$ 7.1"),
    ],
)
def test_text_is_set_as_it_is(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_a_minus_is_not_a_hyphen() -> None:
    assert number("-2.0 to -1.5") == "$-$2.0 to $-$1.5"
    assert number("1e-3") == "1e-3"


def test_the_table_is_whole(study: Study) -> None:
    lines = render(study.tables, "latex", study.suite).splitlines()
    assert [line for line in lines if line.startswith(r"\begin")] == [
        r"\begin{table}",
        r"\begin{tabular}{lrrrrlrr}",
    ]
    rows = [line for line in lines if line.endswith(r"\\") and not line.startswith(r"\multicolumn{8}{l}")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {7}
    assert len(rows) == 1 + 12 + 4  # and a row for each whole curve
    assert lines.count(r"\midrule") == 8  # above each pruning
    assert lines[0].startswith("%")
    assert not any(re.search(r"(?<!\\)[#_]|<|>", line) for line in lines[1:])


def test_verdicts_are_in_few_words(study: Study) -> None:
    text = render(study.tables, "latex", study.suite)
    worse = next(row for row in study.tables.curves.to_dict("records") if row["outcome"] in ("better", "worse"))
    assert f"& {worse['outcome']} by {abs(100 * worse['difference']):.1f} &" in text
    assert "points (" not in text


def test_what_leads_is_bold_and_nothing_else(make_study: Callable[..., Study]) -> None:
    study = make_study(("seeds = [0, 1, 2]", f"seeds = {list(range(8))}"))
    board = study.tables.leaderboard
    rows = [line for line in render(study.tables, "latex", study.suite).splitlines() if line.endswith(r"\\")][1:]
    assert sum(r"\textbf{" in row for row in rows) == board["leading"].sum() + study.tables.curves["leading"].sum()
    assert 0 < board["leading"].sum() < len(board)
    assert all(row.count(r"\textbf{") <= 1 for row in rows)
