from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from sgabench.errors import InputError
from sgabench.plugins.registry import REGISTRIES, Registry, load_plugin_file, optimizers
from sgabench.suite.choices import Choice


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty registry, of an empty package."""
    (tmp_path / "empty_builtins.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("thing", "empty_builtins")

    @registry.register("simple")
    def simple(context: int, *, size: Annotated[int, Field(gt=0)] = 3, mode: Literal["a", "b"] = "a") -> object:
        """Do something simple.

        More words.
        """
        return (context, size, mode)

    @registry.register_source("library")
    def library(name: str, context: int, **options: object) -> object:
        """Anything of the library."""
        return (name, context, options)

    return registry


def test_a_plugin_says_what_it_is(registry: Registry) -> None:
    plugin = registry["simple"]
    assert plugin.description == "Do something simple."
    assert plugin.parameters == {"size": 3, "mode": "a"}
    assert plugin.origin.label == "test_registry.py"


def test_options_are_checked_and_filled_in(registry: Registry) -> None:
    assert registry["simple"].resolve({"size": 5}) == {"size": 5, "mode": "a"}
    with pytest.raises(InputError, match="size: input should be greater than 0, got 0"):
        registry["simple"].resolve({"size": 0})
    with pytest.raises(InputError, match="mode: input should be 'a' or 'b', got 'c'"):
        registry["simple"].resolve({"mode": "c"})
    with pytest.raises(InputError, match="siz: unknown key; did you mean 'size'"):
        registry["simple"].resolve({"siz": 1})
    with pytest.raises(InputError, match="lable: unknown key; did you mean 'label'"):
        registry["simple"].resolve({"lable": 1}, also_valid=["label"])


def test_an_option_that_was_added_later_is_left_out_at_its_default(registry: Registry) -> None:
    @registry.register("grown", added=("new",))
    def grown(context: str, *, old: int = 1, new: int = 2) -> tuple[int, int]:
        """Grow."""
        return old, new

    plugin = registry["grown"]
    assert plugin.resolve({"new": 2}) == {"old": 1}
    assert plugin.resolve({"new": 3}) == {"old": 1, "new": 3}
    assert plugin.build("", **plugin.resolve({})) == (1, 2)
    assert plugin.parameters == {"old": 1, "new": 2}


def test_a_plugin_is_called_with_as_much_context_as_it_takes(registry: Registry) -> None:
    assert registry["simple"].build(1, "not taken", mode="b") == (1, 3, "b")


def test_a_source_answers_for_every_name_behind_its_colon(registry: Registry) -> None:
    plugin = registry["library:Net50"]
    assert plugin.name == "library:Net50"
    assert plugin.resolve({"anything": 1}) == {"anything": 1}
    assert plugin.build(7, anything=1) == ("Net50", 7, {"anything": 1})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simpel", "unknown thing 'simpel'; did you mean 'simple'"),
        ("other", "unknown thing 'other'; valid: simple"),
        ("libary:x", "unknown thing source 'libary' in 'libary:x'; did you mean 'library'"),
        ("library:", "unknown thing source"),
        ("", "unknown thing ''"),
    ],
)
def test_an_unknown_name_gets_the_nearest(registry: Registry, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        registry[name]
    assert message in str(caught.value)


def test_a_name_cannot_be_taken_twice_by_different_files(tmp_path: Path) -> None:
    source = "from sgabench.plugins import optimizers\n@optimizers.register('{}')\ndef f(parameters): pass\n"
    (tmp_path / "first.py").write_text(source.format("taken-once"))
    (tmp_path / "second.py").write_text(source.format("taken-once"))
    load_plugin_file(tmp_path / "first.py")
    load_plugin_file(tmp_path / "first.py")
    with pytest.raises(InputError, match=r"second.py.*already registered by first.py"):
        load_plugin_file(tmp_path / "second.py")
    (tmp_path / "third.py").write_text(source.format("adam"))
    with pytest.raises(InputError, match="already registered by built-in"):
        load_plugin_file(tmp_path / "third.py")


def test_a_plugin_file_that_raises_says_which_and_what(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("import nothing_of_that_name\n")
    with pytest.raises(InputError, match=r"bad.py: ModuleNotFoundError: No module named 'nothing_of_that_name'"):
        load_plugin_file(path)
    path.write_text("def f(:\n")
    with pytest.raises(InputError, match=r"bad.py: SyntaxError"):
        load_plugin_file(path)
    with pytest.raises(InputError, match=r"none.py: No such file"):
        load_plugin_file(tmp_path / "none.py")
    with pytest.raises(InputError, match=r"directory"):
        load_plugin_file(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        "import sys; sys.exit(0)",
        "optimizers.register('odd')(3)",
        "@optimizers.register('odd')\ndef odd(parameters, *, x: 'Nope' = 1): pass",
        "@optimizers.register('odd')\ndef odd(parameters, *, x=object()): pass",
        "@optimizers.register('odd')\ndef odd(parameters, *, x: float = float('nan')): pass",
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused_when_it_is_loaded(tmp_path: Path, body: str) -> None:
    path = tmp_path / "odd.py"
    path.write_text("from sgabench.plugins import optimizers\n" + body + "\n")
    with pytest.raises(InputError, match=r"--plugin .*odd.py"):
        load_plugin_file(path)
    with pytest.raises(InputError, match="unknown optimizer 'odd'"):
        optimizers["odd"]


def test_the_code_of_a_plugin_file_is_part_of_what_it_is(tmp_path: Path) -> None:
    source = "from sgabench.plugins import optimizers\n@optimizers.register('versioned')\ndef f(parameters): {}\n"
    path = tmp_path / "versioned.py"
    sys.dont_write_bytecode, before = False, sys.dont_write_bytecode
    codes = []
    for value in (1, 2, 1):  # within a second and of the same size: what imports would not notice
        path.write_text(source.format(f"return {value}"))
        load_plugin_file(path)
        assert optimizers["versioned"].build([]) == value
        codes.append(optimizers["versioned"].origin.code)
    sys.dont_write_bytecode = before
    assert codes[0] == codes[2] != codes[1]
    assert list(tmp_path.iterdir()) == [path]
    assert optimizers["adam"].origin.code == ""


def test_every_built_in_is_described_and_has_json_defaults() -> None:
    for registry in REGISTRIES.values():
        built_in = [p for p in [*registry.plugins(), *registry.sources()] if p.origin.label == "built-in"]
        assert built_in
        for plugin in built_in:
            assert plugin.description.endswith(".")
            required = [name for name, default in plugin.parameters.items() if default is ...]
            plugin.resolve(dict.fromkeys(required, "x"))


def test_a_revision_is_kept_and_enters_the_identity(registry: Registry) -> None:
    registry.register("new", revision=2, on="dense")(lambda: None)
    registry.register_source("any", revision=3)(lambda name: name)
    assert (registry["new"].revision, registry["any:x"].revision, registry["new"].tags) == (2, 3, {"on": "dense"})
    assert "revision" not in Choice("new", "new", {}).identity()
    assert Choice("new", "new", {}, revision=2).identity()["revision"] == 2
    with pytest.raises(InputError, match=r"thing 'old': revision must be a positive integer, got 0"):
        registry.register("old", revision=0)(lambda: None)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("models", "ResNet18", "unknown model 'ResNet18'; did you mean 'timm:resnet18' or 'torchvision:resnet18'?"),
        ("optimizers", "rprop", "unknown optimizer 'rprop'; did you mean 'torch:Rprop'?"),
        ("optimizers", "adm", "unknown optimizer 'adm'; did you mean 'adam' or"),
        ("optimizers", "no-such", ", torch:NAME, and what a plugin registers: --plugin FILE.py"),
        (
            "models",
            "net.py:Net",
            "unknown model source 'net.py' in 'net.py:Net'; write 'net:Net', and name the file with",
        ),
        ("probes", "lion", "; also what a plugin registers: --plugin FILE.py"),
    ],
)
def test_an_unknown_name_leads_to_sources_and_plugins(kind: str, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        REGISTRIES[kind][name]
    assert message in str(caught.value)


def test_a_plugin_file_can_be_given_as_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--plugin .*absent\.py: No such file or directory"):
        load_plugin_file(str(tmp_path / "absent.py"))


def test_a_suite_in_the_place_of_a_plugin_is_reported_where_it_goes(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").touch()
    (tmp_path / "mine.ipynb").touch()
    with pytest.raises(
        InputError, match=r"mine.toml: is not a Python file \(.py\); a suite is an argument: sgabench run"
    ):
        load_plugin_file(tmp_path / "mine.toml")
    with pytest.raises(InputError, match=r"mine.ipynb: is not a Python file \(.py\)$"):
        load_plugin_file(tmp_path / "mine.ipynb")
