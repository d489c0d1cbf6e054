"""The suites that come with the package, by name: ``quickstart``, ``controls/positive``."""

from __future__ import annotations

from pathlib import Path

_PLACES = (
    Path(__file__).parents[1] / "suites",  # of an installed package
    Path(__file__).parents[2] / "suites",  # of a checkout
)


def shipped_suites() -> dict[str, Path]:
    """Name to file, of every suite that comes with the package."""
    for folder in _PLACES:
        if (folder / "quickstart.toml").is_file():
            files = sorted(folder.rglob("*.toml"))
            return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}
    return {}


def located(path: Path) -> Path:
    """A suite's file: the path itself or, if it does not exist, the shipped suite of that name."""
    if path.suffix or path.exists():
        return path
    return shipped_suites().get(path.as_posix(), path)
