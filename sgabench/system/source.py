"""Which code made a record: a hash of what numbers come from, and the commit it was checked out from."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# Where a change of a line can change a number of a record.
NUMERIC = ("datasets", "models", "optimizers", "pruners", "probes", "training", "measuring", "system/seeds.py")


@cache
def code_hash(package: Path = PACKAGE) -> str:
    """Hash of the source that numbers come from, Python and C++: 12 hexadecimal digits, once a process."""
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
    """The commit that is checked out where the package lies; None where that is no checkout.

    Git's files are read, so that no process is started for it. Changes since that commit are told by `code_hash`.
    """
    try:
        git = checkout / ".git"
        if git.is_file():  # of a linked working tree
            git = (checkout / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref:").strip()
        return head if name == head else _tip(git, name)
    except (OSError, UnicodeDecodeError):
        return None


def _tip(git: Path, name: str) -> str | None:
    """The commit that a branch is at."""
    common = git / "commondir"
    shared = (git / common.read_text(encoding="utf-8").strip()).resolve() if common.is_file() else git
    for folder in (git, shared):
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8").strip()
    packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
