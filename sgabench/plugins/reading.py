"""Record which files a plugin reads while it is called, to detect undeclared ones."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_CODE = frozenset({".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".dylib"})
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/opt")
_CACHES = ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME")  # of downloads, whose names identify them
_installed = threading.Lock()  # acquired forever with the installation of the hook, which Python cannot remove
_opened: dict[int, list[tuple[str, bool]]] = {}  # by thread: paths, and whether they were written


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not _opened or (opened := _opened.get(threading.get_ident())) is None:
        return
    path, mode, flags = arguments
    if isinstance(path, bytes | str):
        reads = mode[:1] == "r" and "+" not in mode if isinstance(mode, str) else not int(str(flags)) & 3
        opened.append((os.fsdecode(path), not reads))


@contextmanager
def files_read(known: Collection[Path]) -> Iterator[list[Path]]:
    """The files that Python code of this thread opens for reading inside the block; complete at the end.

    Libraries and their caches, code, the system's files, and files written inside the block are left out.

    Args:
        known: further files and folders to leave out.
    """
    if _installed.acquire(blocking=False):
        sys.addaudithook(_listen)
    found: list[Path] = []
    thread = threading.get_ident()
    outer, _opened[thread] = _opened.get(thread), []
    try:
        yield found
    finally:
        opened = _opened.pop(thread)
        if outer is not None:
            _opened[thread] = outer
    own = {os.path.realpath(path) for path, written in opened if written}
    left_out = (*_libraries(), *(os.path.realpath(path) for path in known))
    for path in dict.fromkeys(os.path.realpath(path) for path, _ in opened):
        place = Path(path)
        if path in own or place.suffix in _CODE or any(place.is_relative_to(folder) for folder in left_out):
            continue
        if place.is_file():
            found.append(place)


@cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    caches = [os.environ[name] for name in _CACHES if os.environ.get(name)]
    # Where packages are installed elsewhere (pip install --target); a project's own folder has no such metadata.
    targets = [folder for folder in sys.path if folder and any(Path(folder).glob("*.dist-info"))]
    places = [sys.prefix, sys.base_prefix, paths["stdlib"], paths["purelib"], paths["platlib"], *caches, *targets]
    places += [str(Path.home() / ".cache"), str(Path(__file__).parents[1]), *_SYSTEM]
    return tuple({os.path.realpath(place) for place in places} - {"/"})
