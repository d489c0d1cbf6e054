"""The code of a plugin: its file, and what it imports from beside it or from its own package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgabench.errors import InputError
from sgabench.plugins.registry import load_plugin_file, models
from sgabench.plugins.sources import of_file, of_package

PLUGIN = """
from sgabench.plugins import models
from nets.small import width
import activations_of_mine as own

@models.register("layered")
def layered(spec):
    import late_of_mine
    return width, own.act, late_of_mine.x
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """A plugin file with a module, a package without ``__init__.py``, and one that is imported late, beside it."""
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "small.py").write_text("from .deeper import width\n")
    (tmp_path / "nets" / "deeper.py").write_text("width = 4\n")
    (tmp_path / "nets" / "unused.py").write_text("width = 5\n")
    (tmp_path / "activations_of_mine.py").write_text("act = 'relu'\n")
    (tmp_path / "late_of_mine.py").write_text("x = 1\n")
    path = tmp_path / "layered.py"
    path.write_text(PLUGIN)
    before = set(sys.modules)
    yield path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def loaded(plugin: Path) -> tuple[str, object]:
    load_plugin_file(plugin)
    return models["layered"].origin.code, models["layered"].build(None)


def test_what_lies_beside_a_plugin_file_can_be_imported_and_is_known(plugin: Path) -> None:
    assert of_file(plugin).beside == ["activations_of_mine.py", "late_of_mine.py", "nets/deeper.py", "nets/small.py"]
    assert loaded(plugin)[1] == (4, "relu", 1)
    assert not list(plugin.parent.rglob("*.pyc"))


@pytest.mark.parametrize(
    ("file", "old", "new", "result"),
    [
        ("activations_of_mine.py", "relu", "tanh", (4, "tanh", 1)),
        ("nets/deeper.py", "4", "8", (8, "relu", 1)),
        ("late_of_mine.py", "1", "2", (4, "relu", 2)),
    ],
)
def test_a_change_beside_a_plugin_is_another_code_and_runs(
    plugin: Path, file: str, old: str, new: str, result: object
) -> None:
    code, _ = loaded(plugin)
    changed = plugin.parent / file
    changed.write_text(changed.read_text().replace(old, new))  # of the same size, and within a second
    assert loaded(plugin) == (of_file(plugin).code, result)
    assert of_file(plugin).code != code
    changed.write_text("# a comment\n" + changed.read_text().replace(new, old))
    assert loaded(plugin) == (code, (4, "relu", 1))


def test_what_is_not_imported_is_not_the_code(plugin: Path) -> None:
    code = of_file(plugin).code
    (plugin.parent / "nets" / "unused.py").write_text("width = 6\n")
    assert of_file(plugin).code == code


def test_a_name_that_is_installed_too_is_refused(plugin: Path) -> None:
    (plugin.parent / "numpy.py").touch()
    (plugin.parent / "queue.py").touch()
    plugin.write_text("import numpy\n" + PLUGIN)
    with pytest.raises(InputError, match="imports 'numpy', which is beside it and also installed; rename the one bes"):
        load_plugin_file(plugin)
    plugin.write_text("import queue\n" + PLUGIN)
    with pytest.raises(InputError, match="imports 'queue', which is beside it and also a module of Python"):
        load_plugin_file(plugin)
    plugin.write_text(PLUGIN)
    load_plugin_file(plugin)


def test_two_plugin_files_with_other_modules_of_one_name_are_refused(plugin: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "activations_of_mine.py").write_text("act = 'gelu'\n")
    (other / "second.py").write_text("import activations_of_mine\n")
    load_plugin_file(plugin)
    with pytest.raises(
        InputError, match=r"second.py: imports 'activations_of_mine' from beside it, and layered.py imports a dif"
    ):
        load_plugin_file(other / "second.py")


def test_what_nobody_imports_from_beside_a_plugin_is_not_found_there(plugin: Path) -> None:
    (plugin.parent / "lonely_of_mine.py").touch()
    load_plugin_file(plugin)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("lonely_of_mine")


def test_the_code_of_a_package_is_its_version_and_what_its_module_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "my_lions"
    package.mkdir()
    for name, text in {"__init__": "", "lion": "from . import steps", "steps": "x = 1", "other": "x = 1"}.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    code = of_package("my-lions 1.0", "my_lions.lion").code
    assert of_package("my-lions 1.1", "my_lions.lion").code != code
    (package / "other.py").write_text("x = 2")
    (package / "steps.py").write_text("x = 1  # the same\n")
    assert of_package("my-lions 1.0", "my_lions.lion").code == code
    (package / "steps.py").write_text("x = 2")
    assert of_package("my-lions 1.0", "my_lions.lion").code != code
    assert "my_lions" not in sys.modules
