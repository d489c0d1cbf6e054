"""What changes the hash of a plugin's code, and what does not."""

from __future__ import annotations

import pytest

from sgabench.plugins.meaning import meaning

CODE = b"""
from torch import nn

class Net(nn.Module):
    def forward(self, x, scale=None):
        return x + 1
"""
SAME = b'''
"""A network."""
# of one layer
from torch import nn


class Net(nn.Module):
    """It adds."""

    def forward(self, x, scale=None):
        """Forward."""
        return (x + 1)  # one
'''


def test_comments_docstrings_and_layout_do_not_change_it() -> None:
    assert meaning(CODE) == meaning(SAME)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"x + 1", b"x + 2"),
        (b"x + 1", b"x - 1"),
        (b"x + 1", b"x + 1.0"),
        (b"x + 1", b"x + True"),
        (b"scale=None", b"scale=0"),
        (b"scale=None", b"*, scale=None"),
        (b"nn.Module", b"nn.ReLU"),
    ],
)
def test_what_runs_changes_it(old: bytes, new: bytes) -> None:
    assert meaning(CODE) != meaning(CODE.replace(old, new))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"x = 'None'", b"x = None"),
        (b"x = b'a'", b"x = 'a'"),
        (b"{**a, 1: 2}", b"{1: 2}"),
        (b"x = ['a', 'b']", b"x = ['ab']"),
        (b"def f(:", b"def g(:"),
    ],
)
def test_what_looks_alike_are_distinguished(one: bytes, other: bytes) -> None:
    assert meaning(one) != meaning(other)


def test_any_text_has_one() -> None:
    for source in (b"", b"\xff", b"\0", b"x = '\\ud800'", b"x = " + b"+".join([b"1"] * 2000), b"(" * 300):
        assert len(meaning(source)) == 16


def test_it_is_the_same_in_every_version_of_python() -> None:
    """Else, the results of all plugins would be lost with the next one."""
    source = b"def f(a, *, b: int = 1) -> str:\n    return f'{a!r:>{b}}' if a else [x for x in b]\n"
    assert meaning(source) == "2e62179f52c85be3"
