"""How threads wait is decided before torch is loaded, and a user's own setting wins."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from sgabench.optimizers import compiled
from sgabench.system.threads import CHOICES, SPIN_COUNT, wait_politely

# Says what is set when torch is about to be loaded, and goes no further.
FIRST_IMPORT = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
            sys.stdout.flush()
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""
ENTRIES = {
    "command line": "from sgabench.cli import main; main(['env'])",
    "python -m": "import runpy; sys.argv = ['sgabench', 'env']; runpy.run_module('sgabench', run_name='__main__')",
    "api": "from sgabench import run; run('quickstart', results=sys.argv[1])",
}


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CHOICES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


@pytest.mark.parametrize("entry", ENTRIES)
def test_it_is_set_before_torch_is_loaded(entry: str, nothing_set: None, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FIRST_IMPORT + ENTRIES[entry], str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == SPIN_COUNT, done.stderr


@pytest.mark.parametrize("name", CHOICES)
def test_a_setting_of_the_user_wins(name: str, nothing_set: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv(name, "7")
    wait_politely()
    assert {other: os.environ.get(other) for other in CHOICES} == {**dict.fromkeys(CHOICES), name: "7"}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="PyTorch may use OpenBLAS here")
@pytest.mark.parametrize(("of_user", "expected"), [(None, "1"), ("3", "3")])
def test_numpy_starts_no_threads_unless_the_user_says_so(
    of_user: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if of_user is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", of_user)
    first = FIRST_IMPORT.replace('"torch"', '"numpy"').replace("GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS")
    command = [sys.executable, "-c", first + ENTRIES["command line"]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == expected, done.stderr


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="there is no list of loaded libraries here")
def test_compiled_kernels_use_the_threads_of_torch() -> None:
    if (problem := compiled.problem()) is not None:
        pytest.skip(problem)
    maps = Path("/proc/self/maps").read_text().splitlines()
    loaded = {line.split()[-1] for line in maps if "libgomp" in line}
    assert len({path for path in loaded if "scikit_learn" not in path}) == 1  # that brings its own
