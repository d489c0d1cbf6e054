"""The plugin of pytest, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support import DENSE, PRUNED, TINY, fill

from sgabench.gate.baseline import write_baseline
from sgabench.gate.measured import complete
from sgabench.store.store import Store
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite

ROOT = Path(__file__).parents[1]
GATE = ("--sgabench-suite", "tiny.toml", "--sgabench-baseline", "tiny.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite, a baseline, and a store with the same numbers."""
    (tmp_path / "tiny.toml").write_text(TINY)
    plan = make_plan(load_suite(tmp_path / "tiny.toml"), Path("data"))
    with Store(tmp_path / "results", create=True) as store:
        fill(store, plan)
    write_baseline(complete(plan, tmp_path / "results"), tmp_path / "tiny.json")
    return tmp_path


def fill_again(folder: Path, **changes: dict[str, Any]) -> None:
    plan = make_plan(load_suite(folder / "tiny.toml"), Path("data"))
    with Store(folder / "results", create=True) as store:
        fill(store, plan, **changes)


def pytest_in(folder: Path, *arguments: str, plugins: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run pytest with this plugin and no other one."""
    loaded = [part for name in ("sgabench.pytest_plugin", *plugins) for part in ("-p", name)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *loaded, "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_is_found_by_pytest_where_the_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"sgabench.pytest_plugin": "sgabench.pytest_plugin"}


def test_every_check_is_a_test_without_any_test_file(folder: Path) -> None:
    done = pytest_in(folder, *GATE, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pruned_top1[digits/resnet8/adam/magnitude/0.5] PASSED" in done.stdout
    assert "6 passed" in done.stdout


def test_what_regressed_is_described_in_words(folder: Path) -> None:
    fill_again(folder, adam_1={"cell": "failed"})
    done = pytest_in(folder, *GATE, "-rs")
    assert done.returncode == 1
    assert "status of digits/resnet8/adam/magnitude/0.5 regressed" in done.stdout
    assert "must be measured (failed: seed 1)" in done.stdout
    assert "Traceback" not in done.stdout
    assert "1 failed, 6 passed" in done.stdout


@pytest.mark.parametrize(("accepts", "message"), [(False, "1 failed"), (True, "1 skipped")])
def test_what_is_undecided_fails_unless_the_suite_accepts_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, accepts: bool, message: str
) -> None:
    """Three seeds that go up and down by much show neither a loss nor that there is none."""
    suite = TINY.replace("seeds = [0, 1]", "seeds = [0, 1, 2]") + ("\n[gate]\nundecided = 'pass'\n" if accepts else "")
    (folder / "tiny.toml").write_text(suite)
    plan = make_plan(load_suite(folder / "tiny.toml"), Path("data"))
    for name in ("adam", "stochgradadam"):
        monkeypatch.setitem(DENSE, (name, 2), 0.8)
        monkeypatch.setitem(PRUNED, (name, 2), 0.5)
    for name, second in (("was", 0.6), ("now", 0.42)):
        monkeypatch.setitem(PRUNED, ("adam", 1), second)
        with Store(folder / name, create=True) as store:
            fill(store, plan)
    write_baseline(complete(plan, folder / "was"), folder / "tiny.json")
    done = pytest_in(folder, *GATE, "--sgabench-results", "now")
    assert message in done.stdout, done.stdout + done.stderr
    assert (done.returncode, "is undecided" in done.stdout) == ((0, False) if accepts else (1, True))


def test_what_is_missing_fails(folder: Path) -> None:
    fill_again(folder)
    (folder / "tiny.toml").write_text(TINY.replace("seeds = [0, 1]", "seeds = [0, 1, 2]"))
    done = pytest_in(folder, *GATE)
    assert done.returncode == 1
    assert "missing: trial digits/resnet8/adam: seed 2" in done.stdout
    assert "2 failed, 6 passed" in done.stdout


def test_the_gate_runs_beside_tests_of_files_and_is_selected_like_them(folder: Path) -> None:
    (folder / "test_own.py").write_text("def test_own():\n    pass\n")
    assert "7 passed" in pytest_in(folder, *GATE).stdout
    assert "6 passed, 1 deselected" in pytest_in(folder, *GATE, "-m", "sgabench", "--strict-markers").stdout
    assert "2 passed, 5 deselected" in pytest_in(folder, *GATE, "-k", "pruned_top1").stdout


def test_workers_of_xdist_see_the_same_gate(folder: Path) -> None:
    done = pytest_in(folder, *GATE, "-n", "2", plugins=("xdist.plugin", "xdist.looponfail"))
    assert "6 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (GATE[:2], "--sgabench-suite and --sgabench-baseline go together"),
        ((*GATE[:3], "none.json"), "--baseline none.json: No such file"),
        ((*GATE, "--sgabench-only", "*/sgd/*"), "--only */sgd/*: matches no trial"),
        ((*GATE, "--sgabench-run", "--sgabench-plugin", "none.py"), "--plugin none.py: No such file"),
    ],
)
def test_bad_input_is_wrong_usage(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    done = pytest_in(folder, *arguments)
    assert done.returncode == 4, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_it_costs_nothing_where_it_is_not_asked_for(folder: Path) -> None:
    (folder / "test_own.py").write_text(
        "import sys\n\n\ndef test_own():\n"
        "    heavy = {'torch', 'pandas', 'pydantic', 'numpy', 'scipy', 'rich', 'typer'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    done = pytest_in(folder)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_test_of_ones_own_runs_a_suite(folder: Path) -> None:
    (folder / "test_pruner.py").write_text(
        "import torch\n\n\n"
        "def test_my_pruner(sgabench_run):\n"
        "    before = torch.get_num_threads()\n"
        "    tables = sgabench_run('tiny.toml', only='*/adam/0', results='own')\n"
        "    assert tables.cells['sparsity'].tolist() == [0.5]\n"
        "    assert torch.get_num_threads() == before\n"
        "    tables = sgabench_run('tiny.toml')\n"
        "    assert tables.cells['retention'].max() > 0.5\n"
    )
    done = pytest_in(folder, "--sgabench-results", "results")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert (folder / "own/store.sqlite").is_file()
