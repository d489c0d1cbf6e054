"""The suites that come with the package, by name."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sgabench.errors import InputError
from sgabench.suite.resolving import load_suite
from sgabench.suite.shipped import located, shipped_suites

ROOT = Path(__file__).parents[2]
Run = Callable[..., "CompletedProcess[str]"]


def test_every_suite_has_a_name_and_can_be_loaded() -> None:
    names = shipped_suites()
    files = {file.relative_to(ROOT / "suites").with_suffix("").as_posix() for file in ROOT.glob("suites/**/*.toml")}
    assert set(names) == files
    for name in names:
        assert load_suite(name).name == Path(name).name


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text("seeds = 1")
    assert located(Path("quickstart")) == Path("quickstart")
    assert located(Path("ci.toml")) == Path("ci.toml")
    assert located(Path("ci")) == shipped_suites()["ci"]


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"quickstrt: No such file.*suites that come with sgabench: .*quickstart"):
        load_suite("quickstrt")


def test_every_package_is_in_the_wheel() -> None:
    """The list in pyproject.toml, which has the suites beside the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "sgabench").rglob("__init__.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == there | {"sgabench.suites"}


def test_init_writes_a_suite(tmp_path: Path, sgabench: Run) -> None:
    done = sgabench("init")
    assert done.returncode == 0
    assert (tmp_path / "quickstart.toml").read_text() == shipped_suites()["quickstart"].read_text()
    assert "sgabench run quickstart.toml" in done.stdout
    again = sgabench("init")
    assert (again.returncode, again.stderr) == (
        2,
        "error: quickstart.toml: already exists; name another file, or pass --force to replace it\n",
    )
    assert sgabench("init", "controls/null", "--output", "mine.toml").returncode == 0
    wrong = sgabench("init", "quickstat")
    assert wrong.returncode == 2
    assert "sgabench has no such suite; did you mean 'quickstart'" in wrong.stderr


def test_the_version_is_shown(sgabench: Run) -> None:
    import sgabench as package

    assert sgabench("--version").stdout == f"sgabench {package.__version__}\n"


def test_the_oldest_versions_that_are_allowed_are_printed_as_constraints() -> None:
    script = [sys.executable, str(ROOT / ".ci" / "oldest.py"), "--but", "torchvision"]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"torch==2.11", "numpy==1.26", "pytest==8.3", "optuna==4.4"} < set(lines)
    assert len(lines) > len(project["dependencies"])
    assert not any(line.startswith("torchvision") for line in lines)


def test_the_source_distribution_has_the_suites_and_no_part_of_the_tests(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for name in ("sgabench", "suites", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    build = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, check=True)
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        files = {name.partition("/")[2] for name in tar.getnames()}
    assert {f"suites/{name}.toml" for name in shipped_suites()} <= files
    assert {
        "sgabench/models/batch_norm.cpp",
        "sgabench/system/winograd.cpp",
        "sgabench/report/templates/page.html",
        "sgabench/py.typed",
    } <= files
    assert not any(name.startswith("tests") for name in files)
