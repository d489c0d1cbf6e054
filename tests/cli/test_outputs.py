"""Every command that writes a file looks at it first, makes its folder, and replaces by one rule."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from support import fill

from sgabench.cli import app
from sgabench.store.store import Store
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
# What a command takes beside its output; "missing" ones fail as soon as anything is done with them.
GIVEN = {"suite": "tiny.toml", "baseline": "frozen.json", "first": "results", "second": "other", "name": "quickstart"}
MISSING = {"suite": "no-such.toml", "baseline": "no-such.json", "first": "no", "second": "nor", "name": "no-such"}
ARGUMENTS = {"export": "file"}  # outputs that are no option
FOLDERS = {("prune", "output"), ("report", "figures")}
TRAINING = {"prune", "tune"}  # that their folder is made first is all there is to see here
OF_ITS_OWN = {"baseline", "export", "init", "tune"}  # what holds something that the same command may not give again


def outputs() -> list[tuple[str, str]]:
    """Every command with the parameter that names what it writes."""
    found = [(name, ARGUMENTS[name]) for name in ARGUMENTS]
    for name, command in COMMANDS.items():
        found += [(name, of.name) for of in command.params if of.name in ("output", "figures")]
    return sorted(found)


def line(command: str, parameter: str, output: str, given: dict[str, str]) -> list[str]:
    """A command line with all that the command requires."""
    arguments, options = [], []
    for of in COMMANDS[command].params:
        is_argument = of.param_type_name == "argument"
        if of.name == parameter:
            value = output
        elif of.required or (is_argument and of.name == "suite"):
            value = given[of.name]
        else:
            continue
        if is_argument:
            arguments.append(value)
        else:
            options += [of.opts[0], value]
    return [command, *arguments, *options]


@pytest.fixture
def folder(sgabench: Run, tiny: Path, tmp_path: Path) -> Path:
    """Two results folders with known numbers, and a baseline."""
    for name in ("results", "other"):
        with Store(tmp_path / name, create=True) as store:
            fill(store, make_plan(load_suite(tiny), Path("data")))
    assert sgabench("baseline", "tiny.toml", "--output", "frozen.json").returncode == 0
    return tmp_path


def test_no_command_that_writes_is_left_out() -> None:
    assert {name for name, _ in outputs()} == {
        "baseline",
        "check",
        "compare",
        "export",
        "init",
        "prune",
        "report",
        "tune",
    }
    assert {name for name, command in COMMANDS.items() if any(of.name == "force" for of in command.params)} == (
        OF_ITS_OWN
    )


@pytest.mark.parametrize(("command", "parameter"), outputs())
def test_an_output_that_cannot_be_is_refused_before_anything_else(
    sgabench: Run, tmp_path: Path, command: str, parameter: str
) -> None:
    for name in ("results", "a-folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "a-file").touch()
    for output in ["a-file/x", "a-file" if (command, parameter) in FOLDERS else "a-folder"]:
        done = sgabench(*line(command, parameter, output, MISSING))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert output in done.stderr
        assert "is not a folder; name another" in done.stderr or "is a folder; name a file" in done.stderr
    assert (tmp_path / "a-file").read_bytes() == b""


@pytest.mark.parametrize(("command", "parameter"), outputs())
def test_its_folder_is_made(sgabench: Run, folder: Path, command: str, parameter: str) -> None:
    if command in TRAINING:
        sgabench(*line(command, parameter, "deep/er/x", {**GIVEN, "suite": "no-such.toml"}))
        assert (folder / "deep" / "er").is_dir()
        return
    done = sgabench(*line(command, parameter, "deep/er/x", GIVEN))
    assert done.returncode in ({0, 1, 3} if command == "check" else {0}), done.stderr
    assert (folder / "deep" / "er" / "x").stat().st_size > 0


@pytest.mark.parametrize(("command", "parameter"), sorted({*outputs()} - FOLDERS))
def test_only_what_can_be_made_again_is_replaced(sgabench: Run, folder: Path, command: str, parameter: str) -> None:
    (folder / "there").write_text("precious")
    arguments = line(command, parameter, "there", GIVEN)
    if command not in OF_ITS_OWN:
        sgabench(*arguments)
        assert (folder / "there").read_text() != "precious"
        return
    done = sgabench(*arguments)
    assert done.returncode == 2
    assert done.stderr.endswith("there: already exists; name another file, or pass --force to replace it\n")
    assert (folder / "there").read_text() == "precious"
    if command != "tune":
        assert sgabench(*arguments, "--force").returncode == 0
        assert (folder / "there").read_bytes() != b"precious"


def test_weights_of_an_archive_are_not_lost(sgabench: Run, folder: Path) -> None:
    assert sgabench("export", "a.zip", "--weights").returncode == 0
    before = (folder / "a.zip").read_bytes()
    assert sgabench("export", "a.zip").returncode == 2
    assert (folder / "a.zip").read_bytes() == before


@pytest.mark.parametrize(
    "command",
    ["run tiny.toml", "plan tiny.toml", "report", "report tiny.toml", "baseline tiny.toml --output x", "doctor"],
)
def test_the_database_is_no_results_folder(sgabench: Run, folder: Path, command: str) -> None:
    done = sgabench(*command.split(), "--results", "results/store.sqlite")
    assert done.returncode == 2
    message = "error: results folder results/store.sqlite: is a file; name its folder, results\n"
    assert done.stderr == message


def test_results_folders_that_are_not_there_are_reported_before_an_output_makes_them(
    sgabench: Run, tiny: Path, tmp_path: Path
) -> None:
    for command in (["report"], ["baseline", "tiny.toml"], ["check", "tiny.toml", "--baseline", "x"]):
        done = sgabench(*command, "--output", "results/x")
        assert "results folder results: does not exist" in done.stderr
    assert not (tmp_path / "results").exists()
