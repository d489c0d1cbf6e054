"""Which implementation runs where, and what is said when the fast one cannot."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from sgabench.errors import InputError
from sgabench.optimizers import compiled, implementations
from sgabench.optimizers.stoch_grad_adam import StochGradAdam

CommandLine = Callable[..., subprocess.CompletedProcess[str]]
needs_compiler = pytest.mark.skipif(compiled.problem() is not None, reason=str(compiled.problem()))


@pytest.fixture
def _no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    cached = (compiled.problem, compiled._library, implementations.automatic)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("_no_compiler")
def test_without_a_compiler_another_implementation_runs_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, logger="sgabench"):
        for _ in range(2):
            parameter = nn.Parameter(torch.zeros(100))
            optimizer = StochGradAdam([parameter])
            for _ in range(2):
                parameter.grad = torch.ones(100)
                optimizer.step()
    (record,) = caplog.records
    assert "no-such-compiler" in record.getMessage()
    assert implementations.on_device("cpu") == "foreach"
    with pytest.raises(InputError, match="compiled"):
        StochGradAdam([nn.Parameter(torch.zeros(1))], implementation="compiled")


@needs_compiler
def test_the_cpu_uses_the_compiled_one_and_the_variable_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(implementations.VARIABLE, raising=False)
    assert implementations.on_device("cpu") == "compiled"
    assert implementations.on_device("xpu") == "foreach"
    monkeypatch.setenv(implementations.VARIABLE, "single")
    assert implementations.on_device("cpu") == "single"


@pytest.mark.parametrize("name", ["fast", "cuda"])
def test_an_unknown_implementation_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="single, foreach"):
        StochGradAdam([nn.Parameter(torch.zeros(1))], implementation=name)  # type: ignore[arg-type]
    monkeypatch.setenv(implementations.VARIABLE, name)
    with pytest.raises(InputError, match=implementations.VARIABLE):
        StochGradAdam([nn.Parameter(torch.zeros(1))])


def test_the_environment_of_a_record_names_the_implementation(sgabench: CommandLine) -> None:
    done = sgabench("env", "--device", "cpu", SGABENCH_IMPLEMENTATION="foreach")
    assert json.loads(done.stdout)["stochgradadam"] == "foreach"
    done = sgabench("env", "--device", "cpu", SGABENCH_IMPLEMENTATION="fastest")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "SGABENCH_IMPLEMENTATION" in done.stderr


@needs_compiler
def test_a_suite_trains_with_any_implementation_and_keeps_its_keys(
    sgabench: CommandLine, tiny: Path, tmp_path: Path
) -> None:
    keys = []
    for name in ("single", "compiled"):
        done = sgabench(
            "run",
            tiny,
            "--results",
            name,
            "--only",
            "*/stochgradadam/0",
            "--device",
            "cpu",
            SGABENCH_IMPLEMENTATION=name,
        )
        assert done.returncode == 0, done.stderr
        shown = json.loads(sgabench("report", "--results", name, "--format", "json").stdout)
        assert [environment["stochgradadam"] for environment in shown["environments"]] == [name]
        keys.append([trial["key"] for trial in shown["trials"]])
    assert keys[0] == keys[1] != []
