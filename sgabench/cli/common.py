"""Shared code of commands."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sgabench.errors import InputError

if TYPE_CHECKING:
    from sgabench.suite.plan import Plan


def load_plugins(files: list[Path] | None) -> None:
    from sgabench.plugins.registry import load_plugin_file

    for file in files or ():
        load_plugin_file(file)


def plan_of(
    suite: Path,
    results: Path,
    data_dir: Path | None,
    only: str | None,
    settings: list[str] | None,
    plugins: list[Path] | None,
) -> Plan:
    from sgabench.suite.plan import make_plan, select
    from sgabench.suite.resolving import load_suite

    refuse_file(results)
    load_plugins(plugins)
    made = make_plan(load_suite(suite, settings or ()), data_dir or Path("data"))
    return select(made, only)


def confirm_run(plan: Plan, results: Path, yes: bool) -> None:
    """Ask before very many cells are run.

    Raises:
        InputError: there is nobody to ask, or the answer is no.
    """
    from sgabench.store.store import Store
    from sgabench.suite.limits import ASK_ABOVE
    from sgabench.suite.plan import remaining
    from sgabench.suite.work import work_of

    if yes or sum(len(trial.cells) for trial in plan.trials) <= ASK_ABOVE:
        return
    with Store(results) as store:
        stored = store.statuses()
    work = work_of(remaining(plan, stored), stored)
    if work.prunings > ASK_ABOVE:
        confirm(f"{plan.suite.source}: {work} are left to run")


def confirm(what: str) -> None:
    """Ask for confirmation.

    Raises:
        InputError: there is nobody to ask, or the answer is no.
    """
    if not sys.stdin.isatty():
        raise InputError(f"{what}; pass --yes to confirm")
    try:
        if typer.confirm(f"{what}. Run them?", err=True):
            return
    except typer.Abort:  # Ctrl-C, or the end of the input
        typer.echo(err=True)
    raise InputError(f"{what}; nothing was run")


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    from sgabench.system.interruption import Terminated, ignore_ctrl_c, terminable

    try:
        with terminable():
            yield
    except (KeyboardInterrupt, Terminated) as stop:
        ignore_ctrl_c()
        typer.echo("stopped: finished work is stored; run the same command to continue", err=True)
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None


def refuse_file(results: Path) -> None:
    """A results folder is a folder, not the database in it."""
    try:
        if results.is_file():
            raise InputError(f"results folder {results}: is a file; name its folder, {results.parent}")
    except OSError as error:
        raise InputError(f"results folder: {error.strerror or error}") from None


def require_store(results: Path) -> None:
    refuse_file(results)
    try:
        there = results.is_dir()
    except OSError as error:
        raise InputError(f"results folder: {error.strerror or error}") from None
    if not there:
        raise InputError(f"results folder {results}: does not exist; run a suite first, or name another with --results")
