"""The garbage collector is off only for a while."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from sgabench.system.collecting import MANY, uncollected

# What is registered first is called last.
AT_EXIT = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count(), file=sys.stderr))
from sgabench.cli import main
main(["--version"])
"""


class Circle:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    was_on = gc.isenabled()
    yield
    gc.enable() if was_on else gc.disable()


@pytest.mark.parametrize("failing", [False, True])
def test_it_is_on_again_afterwards(failing: bool) -> None:
    gc.enable()
    try:
        with uncollected():
            assert not gc.isenabled()
            if failing:
                raise KeyError
    except KeyError:
        pass
    assert gc.isenabled()


def test_it_stays_off_where_it_was_off() -> None:
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize("many", [False, True])
def test_only_many_objects_grow_old_at_once(many: bool) -> None:
    gc.enable()
    gc.collect()
    with uncollected():
        made = [[number] for number in range(2 * MANY if many else 2)]
    oldest = range(1 if sys.version_info >= (3, 14) else 2, 3)
    assert any(each is made for number in oldest for each in gc.get_objects(number)) is many


def test_garbage_made_meanwhile_is_found_later() -> None:
    with uncollected():
        circle = weakref.ref(Circle())
        assert circle() is not None
    gc.collect()
    assert circle() is None


def test_what_somebody_froze_stays_frozen() -> None:
    gc.enable()
    gc.freeze()
    try:
        with uncollected():
            kept = [[number] for number in range(2 * MANY)]
        assert kept
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def test_a_command_looks_for_no_garbage_when_it_exits() -> None:
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=True)
    assert int(done.stderr) > 1000
