"""What sgabench itself takes, beside training, under pytest-benchmark (`make bench`), on stores of growing size."""

from __future__ import annotations

import secrets
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic import SIZES, fill_synthetic, write_suite

from sgabench.store.store import Store
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite

Study = tuple[Path, Path]

MEASURED = """
import resource, sys, time
from sgabench.cli import main
try:
    main(sys.argv[1:])
finally:
    print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.fixture(scope="module", params=SIZES, ids=str)
def study(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A suite, and a store that has all of it."""
    folder = tmp_path_factory.mktemp(f"cells{request.param}")
    suite = write_suite(folder / "synthetic.toml", request.param)
    with Store(folder / "results", create=True) as store:
        fill_synthetic(store, make_plan(load_suite(suite), Path("data")))
    return suite, folder / "results"


def measure(benchmark: Any, rounds: int, *arguments: str | Path) -> str:
    """Time a command in a process of its own, and give what it prints; beside that, its processor time and memory.

    On a machine that does other work, too, processor time is what can be compared.
    """
    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    run = {"capture_output": True, "text": True, "check": True}
    done = benchmark.pedantic(subprocess.run, (command,), run, rounds=rounds)
    seconds, kilobytes = done.stderr.split()[-2:]
    benchmark.extra_info |= {"processor_seconds": float(seconds), "megabytes": int(kilobytes) // 1024}
    return str(done.stdout)


def test_help(benchmark: Any) -> None:
    assert "Usage:" in measure(benchmark, 5, "--help")


def test_plan(benchmark: Any, study: Study) -> None:
    assert "stored" in measure(benchmark, 3, "plan", study[0], "--results", study[1])


@pytest.mark.parametrize("form", ["markdown", "csv"])
def test_report(benchmark: Any, study: Study, tmp_path: Path, form: str) -> None:
    output = tmp_path / "report"
    measure(benchmark, 3, "report", study[0], "--results", study[1], "--format", form, "--output", output)
    assert output.stat().st_size > 10_000


def test_run_with_nothing_left(benchmark: Any, study: Study) -> None:
    before = (study[1] / "store.sqlite").stat().st_size
    measure(benchmark, 3, "run", study[0], "--results", study[1], "--quiet")
    assert (study[1] / "store.sqlite").stat().st_size == before


def test_put(benchmark: Any, study: Study) -> None:
    """A record into a store that is as large as that."""
    with Store(study[1], create=True) as store:
        record = next(store.records("cell", detail=True))
        records = [replace(record, key=secrets.token_hex(16)) for _ in range(1000)]
        left = iter(records)
        benchmark.pedantic(lambda: store.put(next(left)), rounds=len(records))
        stored = store.statuses()
        put = records[: len(records) - len(list(left))]  # one, where nothing is timed
        assert put
        assert all(stored[record.key] == record.status for record in put)
        store.remove(record.key for record in records)
