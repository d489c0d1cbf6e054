"""The commands that make results and reports again: "How it was made", in every format."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from sgabench.suite.resolving import Suite
from sgabench.suite.shipped import shipped_suites


def commands(
    suite: Suite | None,
    results: Path,
    plugins: Sequence[Path] = (),
    only: str | None = None,
    report: Sequence[str] = (),
) -> list[str]:
    """The command that runs a suite, and the one that reports it; paths as they make sense on another machine.

    Args:
        suite: None: a report of everything stored. One that was made without a file has no commands.
        results: the results folder.
        plugins, only: options of both.
        report: further arguments of the report; empty: it is the leaderboard that the run writes.
    """
    common = []
    if suite:
        if not suite.source.suffix and not suite.source.is_file():
            return []
        names = {file: name for name, file in shipped_suites().items()}
        common.append(names.get(suite.source) or _shown(suite.source))
    if results != Path("results"):  # the default
        common += ["--results", results.name if results.is_absolute() else str(results)]
    for override in suite.overrides if suite else ():
        common += ["--set", override]
    for plugin in plugins:
        common += ["--plugin", _shown(plugin)]
    common += ["--only", only] if only else []
    run = [shlex.join(["sgabench", "run", *common])] if suite else []
    return [*run, shlex.join(["sgabench", "report", *common, *report])] if report else run


def _shown(path: Path) -> str:
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return f"{path.parent.name}/{path.name}" if path.is_absolute() else str(path)
