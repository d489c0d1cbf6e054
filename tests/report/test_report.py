from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from support import fill, variant

from sgabench.evidence.leaderboard import Tables, make_tables
from sgabench.report.commands import commands
from sgabench.report.display import spread, times
from sgabench.report.folder import prepare_folder
from sgabench.report.formats import Format, render, write_leaderboard
from sgabench.report.markdown import escape
from sgabench.report.progress import print_tables
from sgabench.report.terminal import table
from sgabench.store.store import Store
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import Suite, load_suite

HOSTILE = '<script>alert(1)<"script>|`*_[x](y)'


@pytest.fixture
def made(tiny: Path, tmp_path: Path) -> tuple[Tables, Suite]:
    suite = load_suite(tiny)
    plan = make_plan(suite, Path("data"))
    with Store(tmp_path / "results", create=True) as store:
        fill(store, plan, adam_1={"cell": "failed"})
        return make_tables(store, plan), suite


@pytest.fixture
def hostile(tiny: Path, tmp_path: Path) -> tuple[Tables, Suite]:
    variant(tiny, 'name = "adam"', f"name = \"adam\"\nlabel = '''{HOSTILE}'''")
    variant(tiny, 'name = "stochgradadam"', 'name = "stochgradadam"\nlabel = "=1+1"')
    suite = load_suite(tiny)
    plan = make_plan(suite, Path("data"))
    with Store(tmp_path / "results", create=True) as store:
        fill(store, plan)
        return make_tables(store, plan), suite


class Page(HTMLParser):
    """What a browser would see: tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        links = [value or "" for name, value in attrs if name in ("src", "href")]
        self.links += [link for link in links if not link.startswith(("#", "data:"))]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("form", get_args(Format))
def test_every_format_has_the_same_numbers(made: tuple[Tables, Suite], form: Format) -> None:
    text = render(made[0], form, made[1])
    assert text.endswith("\n")
    assert "stochgradadam" in text
    # pruned and dense top-1 of stochgradadam
    numbers = ["0.07071067", "0.8,0.07071067"] if form == "csv" else ["65.0 ± 7.1", "80.0 ± 7.1"]
    for number in ["0.07071067"] if form == "json" else numbers:
        assert number in text.replace(r"$\pm$", "±")


@pytest.mark.parametrize("form", ["table", "markdown", "html"])
def test_what_failed_is_reported(made: tuple[Tables, Suite], form: Format) -> None:
    text = render(made[0], form, made[1]).replace("\\_", "_")
    assert "failed 1" in text
    assert "digits/resnet8/adam/1/magnitude/0.5: ValueError: no" in text


@pytest.mark.parametrize("form", get_args(Format))
def test_nothing_stored_can_be_written_too(tmp_path: Path, form: Format) -> None:
    with Store(tmp_path) as store:
        assert render(make_tables(store), form).endswith("\n")


@pytest.mark.parametrize("form", ["table", "markdown", "html", "csv", "latex"])
def test_cells_are_a_row_per_seed(made: tuple[Tables, Suite], form: Format) -> None:
    text = render(made[0], form, made[1], cells=True)
    for seed in (0, 1):
        for name in ("adam", "stochgradadam"):
            assert (f",{name},{seed}," if form == "csv" else f"{name} seed {seed}") in text
    assert "failed" in text


def test_cells_in_csv_have_a_column_of_seeds_and_none_for_what_a_seed_has_not(made: tuple[Tables, Suite]) -> None:
    frame = pd.read_csv(io.StringIO(render(made[0], "csv", made[1], cells=True)))
    assert sorted(frame["seed"].unique()) == [0, 1]
    assert not {"pruned_top1_std", "retention_low", "trained_high", "verdict", "p"} & set(frame)
    assert {"optimizer", "pruned_top1_mean", "sparsity", "incomplete"} <= set(frame)


def test_json_holds_leaderboard_cells_trials_and_failures(made: tuple[Tables, Suite]) -> None:
    content = json.loads(render(made[0], "json", made[1]))
    assert content["suite"] == "tiny"
    assert len(content["cells"]) == len(content["trials"]) == 4
    best = content["leaderboard"][0]
    assert (best["optimizer"], best["n"]) == ("stochgradadam", 2)
    assert best["pruned_top1_mean"] == pytest.approx(0.65)
    assert content["failures"][0]["status"] == "failed"


def test_csv_is_the_leaderboard(made: tuple[Tables, Suite]) -> None:
    rows = list(csv.DictReader(io.StringIO(render(made[0], "csv", made[1]))))
    assert [row["optimizer"] for row in rows] == ["stochgradadam", "adam"]
    assert float(rows[0]["pruned_top1_mean"]) == pytest.approx(0.65)


def test_a_name_with_markup_is_shown_as_text_in_html(made: tuple[Tables, Suite], hostile: tuple[Tables, Suite]) -> None:
    page = Page(render(hostile[0], "html", hostile[1]))
    assert page.tags.count("script") == Page(render(made[0], "html", made[1])).tags.count("script")
    assert HOSTILE in page.text


def test_a_page_needs_nothing_from_elsewhere(made: tuple[Tables, Suite]) -> None:
    assert Page(render(made[0], "html", made[1])).links == []


def test_a_name_with_markup_is_shown_as_text_in_markdown(hostile: tuple[Tables, Suite]) -> None:
    text = render(hostile[0], "markdown", hostile[1])
    assert "<script>" not in text
    rows = [line for line in text.splitlines() if line.startswith("| magnitude")]
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1


def test_markdown_escapes_what_it_would_read() -> None:
    assert escape("a|b\n<c> *d* _e_ `f` [g]") == r"a\|b &lt;c&gt; \*d\* \_e\_ \`f\` \[g\]"


def test_a_formula_is_harmless_in_a_spreadsheet(hostile: tuple[Tables, Suite]) -> None:
    assert "'=1+1" in render(hostile[0], "csv", hostile[1])
    assert "\n=1" not in render(hostile[0], "csv", hostile[1])


def test_rich_markup_in_a_name_is_shown(tiny: Path, tmp_path: Path) -> None:
    suite = load_suite(variant(tiny, 'name = "adam"', 'name = "adam"\nlabel = "[red]x"'))
    plan = make_plan(suite, Path("data"))
    with Store(tmp_path / "results", create=True) as store:
        fill(store, plan)
        assert "[red]x" in render(make_tables(store, plan), "table", suite)


def test_markdown_says_how_it_was_made(made: tuple[Tables, Suite]) -> None:
    by = commands(made[1], Path("results"), report=["--format", "markdown"])
    lines = render(made[0], "markdown", made[1], commands=by).splitlines()
    folder = made[1].source.parent.name
    assert lines[lines.index("## How it was made") :][2:4] == [
        f"    sgabench run {folder}/tiny.toml",
        f"    sgabench report {folder}/tiny.toml --format markdown",
    ]
    assert "A second of everything." in lines
    assert "torch 2" in lines[-1]


def test_commands_have_what_changes_numbers_and_nothing_of_this_machine(tiny: Path, tmp_path: Path) -> None:
    changed = load_suite(tiny, ["seeds=[0, 1]"])
    found = commands(changed, tmp_path / "mine", [tmp_path / "own.py"], "*/adam/*")
    settings = f"--results mine --set 'seeds=[0, 1]' --plugin {tmp_path.name}/own.py --only '*/adam/*'"
    assert found == [f"sgabench run {tiny.parent.name}/tiny.toml {settings}"]
    assert commands(replace(changed, source=Path("tiny.toml"), overrides=()), Path("results")) == [
        "sgabench run tiny.toml"
    ]
    assert commands(load_suite("quickstart"), Path("results")) == ["sgabench run quickstart"]


def test_what_no_suite_file_made_has_no_commands(made: tuple[Tables, Suite]) -> None:
    assert commands(replace(made[1], source=Path("score")), Path("results"), report=["--cells"]) == []
    assert commands(None, Path("results"), report=["--cells"]) == ["sgabench report --cells"]


def test_the_leaderboard_is_written_beside_the_store(made: tuple[Tables, Suite], tmp_path: Path) -> None:
    write_leaderboard(made[0], prepare_folder(tmp_path / "out"), made[1])
    boards = {"leaderboard.md", "leaderboard.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*boards, "failures.txt"}
    assert "magnitude/0.5\nValueError: no\n" in (tmp_path / "out" / "failures.txt").read_text()
    mended = replace(made[0], failures=made[0].failures[:0])
    write_leaderboard(mended, tmp_path / "out", made[1])
    assert {path.name for path in (tmp_path / "out").iterdir()} == boards


@pytest.mark.parametrize(
    ("mean", "std", "text"), [(0.5, 0.031, "50.0 ± 3.1"), (0.5, float("nan"), "50.0"), (float("nan"),) * 2 + ("",)]
)
def test_a_deviation_is_shown_where_there_is_one(mean: float, std: float, text: str) -> None:
    assert spread(mean, std) == text


def test_missing_ratios_are_empty() -> None:
    values: list[Any] = [times(2), times(float("nan"))]
    assert values == ["2.00x", ""]


def test_a_run_prints_to_a_pipe_what_report_prints(
    made: tuple[Tables, Suite], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_tables(made[0], Path("results"))
    *printed, written = capsys.readouterr().out.splitlines()
    assert printed == table(made[0]).splitlines()
    assert max(map(len, printed)) <= 80
    assert written.startswith("written: results/leaderboard.md")


@pytest.mark.parametrize("width", [80, 120, 150, 200])
def test_a_terminal_explains_what_it_shows_and_names_what_it_leaves_out(
    made: tuple[Tables, Suite], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = render(made[0], "table", made[1]).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    headings, left_out = lines[1], text.partition("Left out here: ")[2]
    for heading, explained in (("compression", "Compression: "), ("retention", "Retention: ")):
        assert (heading in headings) == (explained in text) == (heading not in left_out)
    assert ("Left out here" in text) == (width < 180)
