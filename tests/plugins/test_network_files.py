"""Any class or function of a file is a model: no decorator is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgabench.errors import InputError
from sgabench.plugins import ImageSpec, models
from sgabench.plugins.registry import load_plugin_file

SPEC = ImageSpec(channels=1, height=8, width=8, classes=7)
FILE = """
class Net:
    def __init__(self, num_classes=10, in_channels=3, width=4):
        self.made = (num_classes, in_channels, width)

def plain():
    return "plain"

def anything(**options):
    return options

table = {}
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(FILE)
    load_plugin_file(path)
    return path


def test_classes_and_channels_are_the_data_sets_unless_they_are_set() -> None:
    assert models["net:Net"].build(SPEC).made == (7, 1, 4)
    assert models["net:Net"].build(SPEC, num_classes=3, width=2).made == (3, 1, 2)
    assert models["net:plain"].build(SPEC) == "plain"
    assert models["net:anything"].build(SPEC, a=1) == {"a": 1}


def test_the_code_of_the_file_identifies_it(file: Path) -> None:
    before = models["net:Net"].origin
    assert (before.label, len(before.code)) == ("net.py", 16)
    file.write_text(FILE.replace("width=4", "width=5"))
    load_plugin_file(file)
    assert models["net:Net"].origin.code != before.code


@pytest.mark.parametrize(
    ("name", "message"),
    [("Nett", "net.py has no class or function 'Nett'; did you mean 'Net'"), ("table", "no class or function 'table'")],
)
def test_what_is_not_there_is_reported(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        models[f"net:{name}"].build(SPEC)


def test_a_file_does_not_replace_a_source(tmp_path: Path) -> None:
    path = tmp_path / "timm.py"
    path.write_text(FILE)
    load_plugin_file(path)
    assert models["timm:resnet18"].origin.label == "built-in"
