"""A command line that is wrong: one line that reads like all others."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run", "missing argument 'SUITE'; see"),
        ("merge a", "missing option '--results'; see"),
        ("bench nothing", "invalid value for 'subject': 'nothing' is not one of 'optimizers', 'training'"),
        ("list optimizer", "invalid value for 'kind': 'optimizer' is not one of 'datasets'"),
        ("report --format x", "invalid value for '--format': 'x' is not one of 'table'"),
        ("run a b", "got unexpected extra argument(s) (b); see"),
        ("nope", "no such command 'nope'; see"),
        ("run x.toml --nope", "no such option: --nope; see"),
        ("run x.toml --jobs 0", "invalid value for '--jobs': '0' is neither a positive integer nor 'auto'; see"),
    ],
)
def test_it_is_one_line(sgabench: Run, arguments: str, message: str) -> None:
    done = sgabench(*arguments.split())
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {message}")
    assert not {".;", "Value error", "  "} & {part for part in (".;", "Value error", "  ") if part in done.stderr}
    assert done.stderr.endswith("--help\n")
