"""Which code made a record."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from sgabench.plugins.registry import REGISTRIES
from sgabench.system.source import NUMERIC, PACKAGE, code_hash, commit


def package(folder: Path) -> Path:
    """A package with something in every place that numbers come from."""
    for place in NUMERIC:
        file = folder / place if place.endswith(".py") else folder / place / "module.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# {place}\n")
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_place_of_the_package_that_makes_numbers_is_there() -> None:
    assert all((PACKAGE / place).exists() for place in NUMERIC)
    assert set(REGISTRIES) <= set(NUMERIC)
    assert re.fullmatch("[0-9a-f]{12}", code_hash())


def test_the_hash_changes_with_any_source_that_makes_numbers_and_with_no_other(tmp_path: Path) -> None:
    folder = package(tmp_path)
    of = code_hash.__wrapped__
    before = of(folder)
    (folder / "report").mkdir()
    (folder / "report" / "words.py").write_text("x = 1")
    (folder / "models" / "notes.txt").write_text("x")
    (folder / "system" / "seeds.py").write_bytes(b"# system/seeds.py\r\n")
    assert of(folder) == before
    hashes = {before}
    for changed in ("training/module.py", "system/seeds.py", "optimizers/step.cpp", "models/deeper/new.py"):
        (folder / changed).parent.mkdir(exist_ok=True)
        (folder / changed).write_text("x = 2")
        hashes.add(of(folder))
    assert len(hashes) == 5


def test_the_commit_is_read_from_branches_packed_or_not_detached_and_of_linked_trees(tmp_path: Path) -> None:
    read = commit.__wrapped__
    assert read(tmp_path) is None
    checkout = tmp_path / "checkout"
    git(tmp_path, "init", "-q", "-b", "main", str(checkout))
    assert read(checkout) is None  # nothing is committed yet
    git(checkout, "commit", "-q", "--allow-empty", "-m", "first")
    first = git(checkout, "rev-parse", "HEAD")
    assert read(checkout) == first
    git(checkout, "pack-refs", "--all")
    assert read(checkout) == first
    git(checkout, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    git(tmp_path / "linked", "commit", "-q", "--allow-empty", "-m", "second")
    second = git(tmp_path / "linked", "rev-parse", "HEAD")
    assert (read(checkout), read(tmp_path / "linked")) == (first, second)
    git(checkout, "checkout", "-q", "--detach", second)
    assert read(checkout) == second
