"""Tracebacks of records, in a line."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sgabench.system.tracebacks import has_traceback, in_a_line

PLUGIN = """
def raises():
    raise ValueError("two\\n\\tlines  of it")

def loads(network):
    network.load_state_dict({})

def chained():
    try:
        raises()
    except ValueError:
        raise KeyError("second")

class Mute(Exception):
    def __str__(self):
        raise RuntimeError

def mute():
    raise Mute

def asserts():
    assert 1 > 2
"""


@pytest.fixture
def described(tmp_path: Path) -> Callable[..., str]:
    """The summary of an exception in a function of a plugin file."""
    path = tmp_path / "my plugin.py"
    path.write_text(PLUGIN)
    names: dict[str, Any] = {}
    exec(compile(PLUGIN, str(path), "exec"), names)

    def call(name: str, *arguments: Any) -> str:
        try:
            names[name](*arguments)
        except Exception:
            return in_a_line(traceback.format_exc())
        raise AssertionError

    return call


def test_it_has_class_message_file_and_line(described: Callable[..., str]) -> None:
    assert described("raises") == "ValueError: two lines of it (my plugin.py, line 3)"
    assert described("chained") == "KeyError: 'second' (my plugin.py, line 12)"
    assert described("asserts") == "AssertionError (my plugin.py, line 22)"
    assert described("mute").endswith("Mute: <exception str() failed> (my plugin.py, line 19)")


def test_the_plugin_is_named_if_a_library_raises(described: Callable[..., str]) -> None:
    line = described("loads", nn.Linear(2, 2))
    assert line.startswith("RuntimeError: Error(s) in loading state_dict for Linear: Missing key(s) in state_dict:")
    assert line.endswith("(my plugin.py, line 6)")
    assert "\t" not in line
    assert "\n" not in line


def test_files_of_sgabench_and_libraries_are_not_named() -> None:
    frames = "".join(
        f'  File "{path}", line 7, in call\n    call()\n'
        for path in ("/a/sgabench/running/trial.py", "/b/lib/python3.11/json.py", "/c/site-packages/torch/nn.py")
    )
    error = f"Traceback (most recent call last):\n{frames}RuntimeError: no\n"
    assert in_a_line(error) == "RuntimeError: no"
    assert has_traceback(error)
    mine = '  File "/home/me/sgabench/mine.py", line 3, in f\n    f()\n'
    assert in_a_line(error.replace("RuntimeError", mine + "RuntimeError")) == "RuntimeError: no (mine.py, line 3)"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("", "?"),
        ("the worker process was killed by SIGSEGV", "the worker process was killed by SIGSEGV"),
        ("the training loss\nof epoch 1", "the training loss of epoch 1"),
        ("Traceback (most recent call last):\n", "Traceback (most recent call last):"),
    ],
)
def test_of_a_sentence_it_is_the_sentence(error: str, line: str) -> None:
    assert in_a_line(error) == line
    assert in_a_line("x" * 1000).endswith("x...")
    assert len(in_a_line("x" * 1000)) == 300


def test_a_syntax_error_has_its_line() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("def f(:\n", "/p/mine.py", "exec")
    line = in_a_line("".join(traceback.format_exception(caught.value)))
    assert line.startswith("SyntaxError: ")
    assert line.endswith("(mine.py, line 1)")


def test_of_a_recursion_it_is_one_line() -> None:
    def deeper(depth: int) -> torch.Tensor:
        return deeper(depth + 1)

    with pytest.raises(RecursionError) as caught:
        deeper(0)
    assert in_a_line("".join(traceback.format_exception(caught.value))).startswith("RecursionError: maximum recursion")
