"""Which code made a record: a hash of the source that affects numbers, and the commit of the checkout."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# Where a change can affect the numbers of a record.
NUMERIC = (
    *("datasets", "models", "optimizers", "scores", "pruners", "probes", "training", "measuring"),
    *("running/pruning.py", "system/seeds.py"),
)


@cache
def code_hash(package: Path = PACKAGE) -> str:
    """Hash of the source that affects numbers, Python and C++: 12 hexadecimal digits, computed once per process."""
    digest = hashlib.sha256()
    for place in NUMERIC:
        path = package / place
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".py", ".cpp"))
        for file in files:
            content = file.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{file.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


@cache
def commit(checkout: Path = PACKAGE.parent) -> str | None:
    """The commit of the package's checkout; None if it is not in one.

    Git's files are read directly, without starting a process. Changes since that commit show in `code_hash`.
    """
    try:
        git = checkout / ".git"
        if git.is_file():  # in a linked working tree
            git = (checkout / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref:").strip()
        return head if name == head else _tip(git, name)
    except (OSError, UnicodeDecodeError):
        return None


def _tip(git: Path, name: str) -> str | None:
    """The commit of a branch."""
    common = git / "commondir"
    shared = (git / common.read_text(encoding="utf-8").strip()).resolve() if common.is_file() else git
    for folder in (git, shared):
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8").strip()
    packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
