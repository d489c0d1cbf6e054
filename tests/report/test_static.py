"""The figures as files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from study import HOSTILE, MARKUP, Study

from sgabench.errors import InputError
from sgabench.evidence.details import Details
from sgabench.evidence.leaderboard import make_tables
from sgabench.report.static import write_figures
from sgabench.store.store import Store

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
NAMES = [
    "curves-digits-resnet8-img-src-x-onerror-alert-1-x-x-amp-of-weights",
    "curves-digits-resnet8-magnitude-of-weights",
    "pareto-size-digits-resnet8",
    "pareto-speed-digits-resnet8",
    "training-loss-digits-resnet8",
    "training-top1-digits-resnet8",
    "weights-digits-resnet8",
]


def test_every_figure_is_written_twice_and_the_same_each_time(make_study: Callable[..., Study], tmp_path: Path) -> None:
    label = ', {name = "resnet8", label = "wide", width = 32}]'
    both = make_study(('models = [{name = "resnet8"}]', 'models = [{name = "resnet8"}' + label))
    names = {path.stem for path in write_figures(both.tables, both.details, tmp_path / "both")}
    assert names >= {
        "critical-difference",
        "performance-profiles",
        *(name.replace("resnet8", "wide") for name in NAMES),
    }
    study = make_study()
    written = write_figures(study.tables, study.details, tmp_path / "a")
    assert sorted(path.name for path in written) == sorted(f"{n}.{e}" for n in NAMES for e in ("png", "svg"))
    again = write_figures(study.tables, study.details, tmp_path / "b")
    for first, second in zip(written, again, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
        if first.suffix == ".png":
            with Image.open(first) as picture:
                assert len(picture.convert("RGB").getcolors(1 << 20)) > 20  # not a blank sheet


def test_names_are_drawn_as_they_are(make_study: Callable[..., Study], tmp_path: Path) -> None:
    study = make_study(('name = "adam"', 'name = "adam"\nlabel = "_$\\\\frac{x"'))
    write_figures(study.tables, study.details, tmp_path)
    svg = (tmp_path / f"{NAMES[2]}.svg").read_text(encoding="utf-8")
    # Text is drawn as shapes, each text after a comment that has it.
    comments = re.findall(r"<!-- (.*?) -->", svg)
    assert any(r"_$\frac{x" in comment for comment in comments)
    assert any("script" in comment for comment in comments)
    assert "<script" not in re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "results") as store:
        assert write_figures(make_tables(store), Details(), tmp_path / "figures") == []


def test_one_seed_is_drawn_without_details(make_study: Callable[..., Study], tmp_path: Path) -> None:
    study = make_study(("[0, 1, 2]", "[0]"))
    written = {path.stem for path in write_figures(study.tables, Details(), tmp_path)}
    assert {name for name in NAMES if name.startswith(("curves", "pareto"))} <= written


def test_a_folder_that_cannot_be_made_is_reported(study: Study, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match=r"--figures .*taken"):
        write_figures(study.tables, study.details, tmp_path / "taken")


def test_without_matplotlib_the_way_to_install_it_is_named(study: Study, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from sgabench.cli import main\n"
        f"main(['report', '--results', {str(study.results)!r}, '--figures', {str(tmp_path / 'figures')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --figures: matplotlib is not installed; run: pip install matplotlib"


def test_the_names_are_those_of_the_study(study: Study) -> None:
    assert {HOSTILE, "adam"} == set(study.tables.cells["optimizer"])
    assert MARKUP in set(study.tables.cells["pruner"])
