"""The gate as tests of pytest, and a fixture to run a suite in a test; free until an option or the fixture is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sgabench.evidence.leaderboard import Tables
    from sgabench.gate.items import Item, Outcome

RESULTS = Path("results")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("sgabench", "gate on accuracy after pruning")
    option = group.addoption
    option("--sgabench-suite", metavar="FILE", type=Path, help="Suite file: every check of its gate becomes a test.")
    option("--sgabench-baseline", metavar="FILE", type=Path, help="What sgabench baseline wrote.")
    option("--sgabench-results", metavar="DIR", type=Path, help="Results folder. Default: results.")
    option("--sgabench-run", action="store_true", help="First run what is not stored yet.")
    option("--sgabench-only", metavar="GLOB", help="Only trials (dataset/model/optimizer/seed) that match.")
    option("--sgabench-plugin", metavar="FILE.py", type=Path, action="append", help="Python file of plugins.")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker by which the gate's tests are selected: ``-m sgabench``."""
    config.addinivalue_line("markers", "sgabench: a check of the gate (--sgabench-suite)")
    suite, baseline = config.getoption("sgabench_suite"), config.getoption("sgabench_baseline")
    if (suite is None) != (baseline is None):
        raise pytest.UsageError("--sgabench-suite and --sgabench-baseline go together; give both")
    if suite is None and (config.getoption("sgabench_run") or config.getoption("sgabench_only")):
        raise pytest.UsageError("--sgabench-run and --sgabench-only need --sgabench-suite and --sgabench-baseline")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Train and prune what is missing, once: before the workers of pytest-xdist start."""
    config = session.config
    if config.getoption("sgabench_run") and config.getoption("sgabench_suite") and not hasattr(config, "workerinput"):
        with _input_errors():
            _check(config)  # what it refuses, it refuses before anything is trained for it
            _run(config, config.getoption("sgabench_suite"), only=config.getoption("sgabench_only"))


@pytest.hookimpl(tryfirst=True)  # before tests are selected by -k and -m
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the gate's checks after the tests that files have."""
    if config.getoption("sgabench_suite"):
        gate = Gate.from_parent(session, name="sgabench")
        items.extend(gate.collect())


@contextmanager
def _input_errors() -> Iterator[None]:
    """Bad input is wrong usage: one line, no traceback."""
    from sgabench.errors import InputError

    try:
        yield
    except InputError as error:
        raise pytest.UsageError(str(error)) from None


class Gate(pytest.Collector):
    """All checks of a gate."""

    def collect(self) -> Iterator[GateItem]:
        """A test for each check, and one for each thing that could not be compared."""
        with _input_errors():
            outcome = _check(self.config)
        for check in outcome.items:
            name = check.rule if check.rule.startswith("floor") else check.label
            accepted = check.status == "undecided" and outcome.accepts_undecided
            yield GateItem.from_parent(self, name=f"{name}[{check.name}]", check=check, accepted=accepted)
        for number, gap in enumerate(outcome.gaps, start=1):
            yield GateItem.from_parent(self, name=f"not compared[{number}]", gap=gap)


class GateItem(pytest.Item):
    """A check that was made, or the line of one that could not be."""

    def __init__(self, *, check: Item | None = None, gap: str = "", accepted: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.check, self.gap, self.accepted = check, gap, accepted
        self.add_marker("sgabench")

    def runtest(self) -> None:
        """Pass, skip or fail as the gate says."""
        from sgabench.report.gate import describe

        if self.check is None:
            raise Red(self.gap)
        if self.check.status == "skipped" or self.accepted:
            pytest.skip(describe(self.check))
        if self.check.status in ("regressed", "undecided"):
            raise Red(describe(self.check))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The numbers, not a traceback of sgabench."""
        if isinstance(excinfo.value, Red):
            head = (
                "not compared"
                if self.check is None
                else f"{self.check.metric} of {self.check.name} {_ENDS[self.check.status]}"
            )
            return f"{head}\n  {excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The suite's file, for reports that name one."""
        return self.config.getoption("sgabench_suite"), None, self.name


_ENDS = {"regressed": "regressed", "undecided": "is undecided"}


class Red(Exception):
    """A check that regressed, is undecided, or could not be made."""


def _check(config: pytest.Config) -> Outcome:
    from sgabench.gate.measured import check_plan
    from sgabench.plugins.registry import load_plugin_file
    from sgabench.running.options import Options
    from sgabench.suite.plan import make_plan
    from sgabench.suite.resolving import load_suite

    for plugin in config.getoption("sgabench_plugin") or ():
        load_plugin_file(plugin)
    results = config.getoption("sgabench_results") or RESULTS
    plan = make_plan(load_suite(config.getoption("sgabench_suite")), Options(results).data)
    return check_plan(plan, results, config.getoption("sgabench_baseline"), config.getoption("sgabench_only"))


def _run(config: pytest.Config, suite: Any, **arguments: Any) -> Tables:
    """`sgabench.run` with the results folder and the plugins of the command line; torch keeps its threads."""
    from sgabench.system.threads import wait_politely

    wait_politely()
    import torch

    from sgabench import run

    arguments.setdefault("results", config.getoption("sgabench_results") or RESULTS)
    arguments.setdefault("plugins", config.getoption("sgabench_plugin") or ())
    threads = torch.get_num_threads()
    try:
        return run(suite, **arguments)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def sgabench_run(pytestconfig: pytest.Config) -> Callable[..., Tables]:
    """Run a suite in a test: ``tables = sgabench_run("suites/ci.toml")``.

    It takes what `sgabench.run` takes, and returns its tables. What is in the results folder
    (``--sgabench-results``) is not computed again.
    """

    def call(suite: Any, **arguments: Any) -> Tables:
        return _run(pytestconfig, suite, **arguments)

    return call
