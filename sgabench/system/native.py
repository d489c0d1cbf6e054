"""Compile a C++ file for this processor, once: the library is kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from sgabench.system.processor import cpuinfo, instructions

FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fno-trapping-math"),
)
_TIMEOUT_S = 120


class Unavailable(RuntimeError):
    """There is no compiled library on this machine; the message says why, in one line."""


def load(source: Path, *, contract: bool = False) -> ctypes.CDLL:
    """The library of a C++ file, compiled if the cache does not have it.

    Its name is a hash of the source, the flags, the compiler and the processor, so that it is compiled again if any of
    them changes. Any number of processes may do so at once.

    Args:
        source: the file.
        contract: products and sums may be rounded once together. If not, with IEEE roots and quotients, results do not
            depend on the choice of instructions.

    Raises:
        Unavailable: there is no compiler, it failed, or there is no safe place to keep the library.
    """
    compiler = _compiler()
    folder = cache_folder()
    flags = (*FLAGS, "-ffp-contract=fast" if contract else "-ffp-contract=off")
    parts = (source.read_text(encoding="utf-8"), flags, _version(compiler), platform.machine(), *_processor())
    library = folder / f"{source.stem}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:20]}.so"
    try:
        if not library.exists():
            _compile(compiler, flags, source, library)
        _require_own(library)
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise Unavailable(f"the compiled library cannot be used: {' '.join(str(error).split())}") from None


def compiler_here() -> str:
    """Name and version of the compiler that `load` uses, in one line.

    Raises:
        Unavailable: as `load`.
    """
    cache_folder()
    return _version(_compiler()).splitlines()[0].strip()


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["g++"], ["c++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    raise Unavailable(f"there is no C++ compiler ({named[0] if named else 'g++'}); name one in CXX")


def _version(compiler: list[str]) -> str:
    return _run([*compiler, "--version"])


def _processor() -> tuple[str, str]:
    return cpuinfo("model name"), instructions()


def _compile(compiler: list[str], flags: tuple[str, ...], source: Path, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as beside:
        made = Path(beside) / library.name
        _run([*compiler, *flags, str(source), "-o", str(made)])
        made.chmod(0o600)
        made.replace(library)


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the C++ compiler cannot be run: {' '.join(str(error).split())[:200]}") from None
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        line = next((line for line in output if "error" in line), output[0])
        raise Unavailable(f"the C++ compiler failed: {line.strip()[:200]}")
    return done.stdout


def cache_folder() -> Path:
    """A folder for what is computed once per machine; nobody else can write to it, because its content is executed.

    Raises:
        Unavailable: there is no safe place.
    """
    if not hasattr(os, "geteuid"):
        raise Unavailable("nothing is compiled on this system")
    named = Path(os.environ.get("XDG_CACHE_HOME") or "")
    try:
        folder = (named if named.is_absolute() else Path.home() / ".cache") / "sgabench"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve(strict=True)
        _require_own(folder)
        for parent in folder.parents:
            mode = parent.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                raise Unavailable(f"the cache {folder} is in a world-writable folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise Unavailable(f"the cache {folder} cannot be written")
    except (OSError, RuntimeError) as error:
        if isinstance(error, Unavailable):
            raise
        raise Unavailable(f"there is nowhere to put a compiled library: {error}; set XDG_CACHE_HOME") from None
    return folder


def _require_own(path: Path) -> None:
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unavailable(f"{path} belongs to, or is writable by, another user")
