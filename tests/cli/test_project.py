"""The project file: found from the working directory upwards, for every command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import called_here, variant

from sgabench.cli import project as module
from sgabench.cli.project import Project, find_project, with_plugins
from sgabench.errors import InputError

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PLUGIN = """
from sgabench.plugins import pruners

@pruners.register("of-the-project")
def of_the_project(network):
    return network
"""
SETTINGS = 'plugins = ["plugins/mine.py"]\nresults = "out"\ndata_dir = "pictures"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a plugin file; the working directory is a folder in it."""
    for folder in ("plugins", "below"):
        (tmp_path / "project" / folder).mkdir(parents=True)
    (tmp_path / "project" / "plugins" / "mine.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path / "project" / "below")
    monkeypatch.delenv("SGABENCH_DATA", raising=False)
    return tmp_path / "project"


@pytest.mark.parametrize(("name", "head"), [("sgabench.toml", ""), ("pyproject.toml", "[tool.sgabench]\n")])
def test_it_is_found_upwards_and_its_paths_are_relative_to_it(project: Path, name: str, head: str) -> None:
    assert find_project() is None
    (project / name).write_text(head + SETTINGS)
    mine, up = Path("../plugins/mine.py"), Path("..")
    assert find_project() == Project(up / name, (mine,), up / "pictures", up / "out")
    assert with_plugins(None) == [mine]
    (project / "below" / "other.py").touch()
    assert with_plugins([Path("other.py"), mine.resolve()]) == [mine, Path("other.py")]


def test_the_nearest_one_counts_and_a_file_without_the_table_is_none(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.sgabench]\nresults = 'far'\n")
    (project / "below" / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert find_project() == Project(Path("../pyproject.toml"), results=Path("../far"))
    (project / "below" / "sgabench.toml").write_text("results = 'near'\n")
    (project / "below" / "pyproject.toml").write_text("[tool.sgabench]\nresults = 'beside'\n")
    assert find_project() == Project(Path("sgabench.toml"), results=Path("near"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plugin = []", "plugin: unknown key; did you mean 'plugins'?; a project file has plugins, data_dir and"),
        ("plugins = 'mine.py'", "sgabench.toml: plugins: must be a list, got 'mine.py'"),
        ("plugins = ['none.py']", "sgabench.toml: plugins: none.py: no such file"),
        ("results = 3", "sgabench.toml: results: input should be a valid string, got 3"),
        ("results = ''", "sgabench.toml: results: string should have at least 1 character, got ''"),
        ("results = ", "sgabench.toml: not a TOML file: Invalid value"),
        ("[[datasets]]\nname = 'digits'", "sgabench.toml: datasets: unknown key"),
    ],
)  # fmt: skip
def test_what_a_project_cannot_say_is_refused(project: Path, text: str, message: str) -> None:
    (project / "sgabench.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        find_project()
    assert message in str(caught.value)


def test_the_file_of_another_user_is_not_used(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "sgabench.toml").write_text(SETTINGS)
    monkeypatch.setattr(module, "_is_trusted", lambda path, here: False)
    assert find_project() is None
    assert capsys.readouterr().err == "warning: ../sgabench.toml belongs to another user, and is not used\n"


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files away")
def test_the_owner_of_the_working_directory_is_trusted(project: Path) -> None:
    (project / "sgabench.toml").write_text(SETTINGS)
    os.chown(project / "sgabench.toml", 12345, 12345)
    assert not module._is_trusted(project / "sgabench.toml", project / "below")
    os.chown(project / "below", 12345, 12345)
    assert module._is_trusted(project / "sgabench.toml", project / "below")


def test_every_command_knows_its_plugins_and_folders(project: Path, tiny: Path) -> None:
    (project / "sgabench.toml").write_text(SETTINGS)
    variant(tiny, "seeds = [0, 1]", "seeds = [0]")
    suite = str(variant(tiny, 'name = "magnitude"', 'name = "of-the-project"'))
    below = project / "below"
    assert "of-the-project" in called_here(below, ["list", "pruners"], {}).stdout
    done = called_here(below, ["run", suite, "--only", "*/adam/*"], {})
    assert done.returncode == 0, done.stderr
    assert (project / "out" / "store.sqlite").is_file()
    for command in (
        ["plan"],
        ["report"],
        ["baseline", "--output", "b.json", "--allow-incomplete"],
        ["check", "--baseline", "b.json"],
    ):
        shown = called_here(below, [command[0], suite, *command[1:]], {})
        assert shown.returncode == (3 if command[0] == "check" else 0), shown.stderr
    assert "of-the-project" in (below / "b.json").read_text()
    elsewhere = called_here(below, ["report", suite, "--results", "none"], {})
    assert "results folder none: does not exist" in elsewhere.stderr


def test_a_suite_of_a_stranger_brings_no_project_file(project: Path, tiny: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "evil.py").write_text("raise RuntimeError('run')\n")
    (stranger / "sgabench.toml").write_text('plugins = ["evil.py"]\n')
    (stranger / "suite.toml").write_text(tiny.read_text())
    shown = called_here(project / "below", ["plan", str(stranger / "suite.toml")], {})
    assert shown.returncode == 0, shown.stderr


def test_the_data_folder_of_the_environment_comes_before_the_projects(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "sgabench.toml").write_text(SETTINGS)
    for environment, option, expected in (
        ({}, [], "../pictures"),
        ({"SGABENCH_DATA": "mine"}, [], "mine"),
        ({"SGABENCH_DATA": "mine"}, ["--data-dir", "here"], "here"),
    ):
        shown = called_here(project / "below", ["doctor", *option], environment)
        assert f"not in {expected}, and downloaded" in shown.stdout
