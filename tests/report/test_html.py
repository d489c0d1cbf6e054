"""The page as a file; `test_html_browser` opens it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from study import HOSTILE, MARKUP, Study, dense, put_study
from support import variant

from sgabench.evidence.leaderboard import make_tables
from sgabench.report import html as page_module
from sgabench.report.formats import render
from sgabench.report.html import sort_key
from sgabench.report.plots import safe
from sgabench.store.store import Store
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite

SECTIONS = ["answer", "leaderboard", "curves", "pareto", "weights", "training", "pairs", "origin"]

TWO_MODELS = (
    'models = [{name = "resnet8"}]',
    'models = [{name = "resnet8"}, {name = "resnet8", label = "wide", width = 32}]',
)


class Page(HTMLParser):
    """What a browser would read: tables, scripts by id, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.size = len(text.encode())
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.keys: dict[str, list[list[str | None]]] = {}
        self.scripts: dict[str, str] = {}
        self.text: list[str] = []
        self._open: list[str] = []
        self._table = ""
        self._script = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._open.append(tag)
        if tag == "table":
            self._table = str(attributes["id"])
            self.rows[self._table], self.keys[self._table] = [], []
        elif tag == "tr":
            self.rows[self._table].append([])
            self.keys[self._table].append([])
        elif tag in ("td", "th"):
            self.rows[self._table][-1].append("")
            self.keys[self._table][-1].append(attributes.get("data-order"))
        elif tag == "script":
            self._script = attributes.get("id") or ""

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside in ("td", "th"):
            self.rows[self._table][-1][-1] += data
        elif inside == "script":
            self.scripts[self._script] = data
        else:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def figure(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.scripts[f"{name}-data"])
        return content

    def records(self, table: str) -> list[dict[str, str]]:
        header, *rows = self.rows[table]
        return [dict(zip(header, row, strict=True)) for row in rows]


def page_of(study: Study, **more: Any) -> Page:
    return Page(render(study.tables, "html", study.suite, details=study.details, **more))


def test_the_sections_come_in_the_order_that_was_agreed(study: Study) -> None:
    page = page_of(study)
    assert [attributes.get("id") for tag, attributes in page.tags if tag == "h2"] == SECTIONS
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"][1:] == [f"#{name}" for name in SECTIONS]


def test_every_format_agrees_with_a_hand_calculation(study: Study) -> None:
    # adam at 0.4 of magnitude: (0.80, 0.81, 0.82) * 0.8 - (0, 0.0004, 0.0008) = 0.64, 0.6476, 0.6552
    row = next(
        row
        for row in page_of(study).records("leaderboard-table")
        if (row["optimizer"], row["pruner"], row["ratio"]) == ("adam", "magnitude", "0.4 of weights")
    )
    assert (row["n"], row["dense %"], row["pruned %"]) == ("3", "81.0 ± 1.0", "64.8 ± 0.8")
    # The spread counts for no less than that of 1,000 images: 4.303 * sqrt(p (1 - p) / 1000 / 3) = 0.0375.
    # On the scale of log-odds: logit(0.6476) ± 0.0375 / (p (1 - p)) = 0.6087 ± 0.1645.
    assert row["95 % interval"] == "60.9 to 68.4"
    markdown = render(study.tables, "markdown", study.suite)
    assert "| 3 | 81.0 ± 1.0 | 64.8 ± 0.8 | 80.0 ± 0.0 | 60.9 to 68.4 |" in markdown
    assert r"& 3 & 81.0 $\pm$ 1.0 & \textbf{64.8 $\pm$ 0.8} & 60.9 to 68.4" in render(
        study.tables, "latex", study.suite
    )
    numbers = next(
        row
        for row in csv.DictReader(io.StringIO(render(study.tables, "csv")))
        if (row["optimizer"], row["pruner"], row["ratio"]) == ("adam", "magnitude", "0.4")
    )
    assert float(numbers["pruned_top1_mean"]) == pytest.approx(0.6476)
    assert float(numbers["pruned_top1_std"]) == pytest.approx(0.0076)
    assert float(numbers["pruned_top1_low"]) == pytest.approx(0.60923, abs=1e-5)
    line = next(trace for trace in page_of(study).figure("curves-1")["data"] if trace.get("name") == "adam")
    assert line["y"][:1] == [81.0]
    assert line["y"][2] == pytest.approx(64.76)


def test_a_curve_can_be_drawn_against_what_was_achieved(study: Study) -> None:
    line = next(trace for trace in page_of(study).figure("curves-1")["data"] if trace.get("name") == "adam")
    assert line["x"] == line["meta"]["ratio"] == [0, 0.2, 0.4, 0.8]
    assert line["meta"]["compression"] == pytest.approx([1, 1.25, 1 / 0.6, 5], rel=1e-4)
    assert line["meta"]["macs"] == pytest.approx([1, 1.2, 1.4, 1.8])


def test_every_seed_is_a_point_and_the_interval_a_band(study: Study) -> None:
    band, points, line = page_of(study).figure("curves-1")["data"][:3]
    assert band["fill"] == "toself"
    assert len(points["y"]) == 9
    assert points["y"][:3] == pytest.approx([100 * (dense("adam", 0) * (1 - 0.5 * r)) for r in (0.2, 0.4, 0.8)])
    assert line["line"]["color"] == band["fillcolor"].replace("rgba(0,114,178,0.16)", "#0072B2")


def test_an_optimizer_has_one_color_in_all_figures(study: Study) -> None:
    page = page_of(study)
    colors: dict[str, set[str]] = {}
    for name in ("curves-1", "curves-2", "speed-1", "size-1", "weights-1", "epochs-1", "epochs-2"):
        for trace in page.figure(name)["data"]:
            if "name" in trace and trace["name"] != "Pareto front":
                look = trace["line"] if trace["mode"].startswith("lines") else trace["marker"]
                colors.setdefault(trace["name"], set()).add(look["color"])
    optimizers = {"adam": {"#0072B2"}, safe(HOSTILE): {"#D55E00"}}
    assert {name: colors.pop(name) for name in optimizers} == optimizers
    assert {"dense", "magnitude"} <= colors.keys()  # what symbols mean
    assert set.union(*colors.values()) == {"#555555"}


def test_the_weights_and_layers_are_those_of_the_store(study: Study) -> None:
    page = page_of(study)
    adam, other = page.figure("weights-1")["data"]
    assert (adam["x"], adam["y"], other["y"]) == ([-2.5, -1.5, -0.5], [25, 25, 50], [0, 100, 0])
    heat = page.figure("layers-1")["data"][0]
    assert heat["y"] == ["&lt;b&gt;conv&lt;/b&gt;", "layer2", "layer10"]
    assert heat["x"] == [["0.2", "0.2", "0.4", "0.4", "0.8", "0.8"], ["adam", safe(HOSTILE)] * 3]
    assert [row[2] for row in heat["z"]] == pytest.approx([20, 4, 36])


def test_training_is_shown_in_curves_and_in_a_table(study: Study) -> None:
    page = page_of(study)
    band, line = page.figure("epochs-1")["data"][:2]
    assert (line["x"], line["y"]) == ([1, 2], [4, 2.5])  # 3 / epoch + the mean of the seeds
    assert band["y"] == [5, 3.5, 1.5, 3]
    adam = page.records("training-table")[0]
    assert (adam["optimizer"], adam["seconds"], adam["images/s"]) == ("adam", "11 ± 1", "500 ± 0")


def test_every_figure_has_its_text(make_study: Callable[..., Study]) -> None:
    page = page_of(make_study(TWO_MODELS))
    plots = [attributes for tag, attributes in page.tags if tag == "div" and attributes.get("class") == "plot"]
    kinds = {plot["data-kind"] for plot in plots}
    assert kinds == {"curves", "speed", "size", "weights", "layers", "epochs", "ranks", "profiles"}
    assert all(len(str(plot["data-alt"])) > 40 for plot in plots)
    assert [tag for tag, _ in page.tags].count("figcaption") == len(plots)
    assert f"Top-1 at 0.8 of weights: {HOSTILE} 56.7 %, adam 48.5 %." in page.words


def test_the_comparisons_have_sign_interval_and_outcome(study: Study) -> None:
    pairs = page_of(study).records("pairs-table")
    pair = next(row for row in pairs if row["ratio"] == "0.4 of weights")
    # other - adam: 0.63 - 0.64, 0.6386 - 0.6476, 0.6472 - 0.6552
    assert (pair["first"], pair["second"], pair["first - second, points"]) == (HOSTILE, "adam", "-0.9")
    assert {row["ratio"] for row in pairs} == {"whole curve", "", "0.2 of weights", "0.4 of weights", "0.8 of weights"}
    for row in pairs:
        low, high = (float(end) for end in row["interval"].split(" to "))
        assert (low > 0 or high < 0) == (row["outcome"] in ("better", "worse"))


def test_hostile_names_are_text_everywhere(study: Study) -> None:
    page = page_of(study)
    assert {attributes.get("type") for tag, attributes in page.tags if tag == "script"} == {
        "application/json",
        "text/plain",
        "module",
    }
    assert "img" not in [tag for tag, _ in page.tags]
    assert any(HOSTILE in row for row in page.rows["leaderboard-table"])
    assert any(MARKUP in row for row in page.rows["leaderboard-table"])
    for name, script in page.scripts.items():
        if name.endswith("-data"):
            assert "<" not in script
            text = json.dumps(json.loads(script))
            assert "<script" not in text
            assert "<img" not in text
            assert "<b>" not in text


@pytest.mark.parametrize(
    ("name", "shown"), [("<b>a</b>", "&lt;b&gt;a&lt;/b&gt;"), ("&lt;", "&amp;lt;"), ("%{x}", "%&#123;x}")]
)
def test_plotly_shows_names_as_they_are(name: str, shown: str) -> None:
    assert safe(name) == shown


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("65.0 ± 7.1", 65),
        ("-2.0 to 65.4", -2),
        ("2.00x", 2),
        ("0.5 of weights", 0.5),
        ("+5.4", 5.4),
        ("< 0.001", 0.001),
    ],
)
def test_a_cell_is_sorted_by_its_number(text: str, key: float) -> None:
    assert sort_key(text) == key


def test_cells_without_a_number_come_first_and_what_is_beyond_last() -> None:
    assert sort_key("") < sort_key("-100.0") < sort_key("0.5") < sort_key("beyond 0.2")


def test_one_seed_has_no_band_and_no_verdict(make_study: Callable[..., Study]) -> None:
    page = page_of(make_study(("[0, 1, 2]", "[0]")))
    assert "no verdict; at least 3 seeds are needed" in page.words
    assert all("fill" not in trace for trace in page.figure("curves-1")["data"])
    assert {row["outcome"] for row in page.records("pairs-table")} == {"few"}


def test_equal_budgets_are_drawn_against_the_budget(make_study: Callable[..., Study]) -> None:
    page = page_of(make_study(by="compression"))
    figure = page.figure("curves-1")
    assert figure["layout"]["xaxis"]["title"]["text"] == "compression, times"
    assert figure["data"][-1]["x"][:3] == [1, 1.25, 1.5]
    assert "No layers are known" in page.words


def test_a_page_without_details_says_what_is_missing(study: Study) -> None:
    page = Page(render(study.tables, "html", study.suite))
    for text in ('the probe "weights" does it', "No layers are known", "No training history is stored"):
        assert text in page.words
    assert "curves-1-data" in page.scripts


def test_an_empty_store_gives_a_page(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        page = Page(render(make_tables(store), "html"))
    assert [attributes.get("id") for tag, attributes in page.tags if tag == "h2"] == SECTIONS
    assert "Nothing is stored yet." in page.words
    assert page.rows == {}


def test_what_failed_and_what_is_missing_is_on_the_page(study: Study) -> None:
    with Store(study.results, create=True) as store:
        first, second = list(store.records("trial"))[:2]
        store.put(
            type(first)(first.key, "trial", None, "diverged", first.labels, {}, first.environment, error="NaN <b>")
        )
        chance = {**second.result, "top1": 0.1, "classes": 10, "test_images": 100}
        store.put(type(second)(second.key, "trial", None, "done", second.labels, {}, second.environment, chance))
        page = Page(render(make_tables(store, study.plan), "html", study.suite))
    assert "NaN <b>" in page.words
    notes = [row["seeds lacking"] for row in page.records("training-table")]
    assert any(note.startswith("diverged") for note in notes)
    assert any("at chance" in note for note in notes)


def test_too_many_rows_are_put_together_and_the_page_says_so(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MOST_ROWS", 5)
    monkeypatch.setattr(page_module, "MOST_PANELS", 1)
    page = page_of(study)
    assert "The 12 rows of the leaderboard are too many for one page." in page.words
    assert "2 panels of curves are too many for one page." in page.words
    assert "The 9 comparisons are counted" in page.words
    assert len(page.records("leaderboard-table")) == 4  # a curve each
    assert "curves-1-data" not in page.scripts
    heat = page.figure("areas-1")["data"][0]
    assert len(heat["y"]) == 2
    # adam: mean of 1 - 0.5 r from 0 to 0.8, but for the thousandths of the seeds
    assert heat["z"][0][0] == pytest.approx(80, abs=0.1)
    counted = page.records("pairs-table")
    assert [row["comparisons"] for row in counted] == ["2", "7"]


def test_many_cells_have_no_points(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MOST_POINTS", 10)
    page = page_of(study)
    assert "The points of single seeds are left out: there are 36 cells." in page.words
    assert {trace["mode"] for trace in page.figure("curves-1")["data"]} == {"none", "lines+markers"}


def test_two_thousand_cells_fit_into_six_megabytes(tiny: Path, tmp_path: Path) -> None:
    sweep = ", ".join(f"{0.001 * (i + 1):.3f}" for i in range(20))
    variant(tiny, "lr = 0.01\n\n[[opt", f"sweep.lr = [{sweep}]\n\n[[opt")
    variant(tiny, "ratios = [0.5]", f"ratios = [{', '.join(f'{r / 100}' for r in range(1, 100))}]")
    text = tiny.read_text()
    tiny.write_text(text[: text.index('[[optimizers]]\nname = "stoch')] + '[[pruners]]\nname = "magnitude"\n')
    plan = make_plan(load_suite(variant(tiny, "seeds = [0, 1]", "seeds = [0]")), Path("data"))
    assert len(list(plan.cells())) == 20 * 99
    with Store(tmp_path / "results", create=True) as store:
        assert store._database is not None
        store._database.execute("PRAGMA synchronous = OFF")
        put_study(store, plan)
        page = Page(render(make_tables(store, plan), "html", plan.suite))
    assert len(page.records("leaderboard-table")) == 20 * 99 + 20  # and a row for each whole curve
    assert page.size < 6_000_000


def test_the_commands_make_the_same_page_again(
    study: Study, sgabench_process: Callable[..., CompletedProcess[str]]
) -> None:
    (study.results.parent / "plugin.py").write_text(
        f"from sgabench.plugins import optimizers\n@optimizers.register({HOSTILE!r})\n"
        "def hostile(parameters, *, lr=0.1):\n    raise AssertionError('a report builds no optimizer')\n"
    )
    common = ("study.toml", "--plugin", "plugin.py", "--set", "seeds=[0, 1]", "--reference", HOSTILE, "--pairs", "all")
    done = sgabench_process("report", *common, "--format", "html", "--output", "report.html")
    assert done.returncode == 0, done.stderr
    page = Page((study.results.parent / "report.html").read_text(encoding="utf-8"))
    assert "sgabench run study.toml --set 'seeds=[0, 1]' --plugin plugin.py" in page.words
    assert (
        "sgabench report study.toml --set 'seeds=[0, 1]' --plugin plugin.py --reference '<script>alert(1)</script>' "
        "--pairs all --format html --output report.html"
    ) in page.words
    # The plugin's code is another than that of the study's, so its trials are not there.
    assert {(row["optimizer"], row["n"]) for row in page.records("leaderboard-table")} == {
        ("adam", "2"),
        (HOSTILE, "0"),
    }
    assert "torch 2" in page.words
