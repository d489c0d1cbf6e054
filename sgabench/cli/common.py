"""What several commands do."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
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

    if yes or sum(len(trial.cells) for trial in plan.trials) <= ASK_ABOVE:
        return
    with Store(results) as store:
        left = remaining(plan, store.statuses())
    cells = sum(len(trial.cells) for trial in left)
    if cells > ASK_ABOVE:
        confirm(f"{plan.suite.source}: {len(left)} trials with {cells} cells are left to run")


def confirm(what: str) -> None:
    """Ask whether so much is meant.

    Raises:
        InputError: there is nobody to ask, or the answer is no.
    """
    if not sys.stdin.isatty():
        raise InputError(f"{what}; if that is meant, pass --yes")
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
        typer.echo("stopped: what was finished is stored; run the same command to go on", err=True)
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None


def write(text: str, output: Path | None, sources: Sequence[Path | None], folders: Sequence[Path]) -> None:
    """Print a text, or write it to a file that is none of those it was made from."""
    from sgabench.store.store import write_atomically

    if output is None:
        typer.echo(text, nl=False)
        return
    refuse_to_replace(output, sources, folders)
    try:
        if output.exists() and not output.is_file():  # a device or a pipe is written to, never replaced
            output.write_text(text, encoding="utf-8")
        else:
            write_atomically(output.resolve(), text.encode())
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror or error}") from None


def prepare_output(output: Path | None, sources: Sequence[Path | None], folders: Sequence[Path]) -> None:
    """Refuse an output that cannot be written, before anything is computed for it; its folder is made.

    Raises:
        InputError: it is a folder, is protected, or would replace what it is made from.
    """
    if output is None:
        return
    refuse_to_replace(output, sources, folders)
    try:
        for folder in output.parents:
            if folder.exists() and not folder.is_dir():
                raise InputError(f"--output {output}: {folder} is no folder; name another file")
        output.resolve().parent.mkdir(parents=True, exist_ok=True)
        if output.is_dir():
            raise InputError(f"--output {output}: is a folder; name a file")
        place = output if output.exists() else output.resolve().parent
        if not os.access(place, os.W_OK):
            raise InputError(f"--output {output}: {place} is not writable; name another file")
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror or error}") from None


def refuse_to_replace(
    output: Path, sources: Sequence[Path | None], folders: Sequence[Path], option: str = "--output "
) -> None:
    """An output must be none of the files it is made from, and nothing that a results folder consists of."""
    target = output.resolve()
    if target in [path.resolve() for path in sources if path]:
        raise InputError(f"{option}{output}: would replace what it is made from; name another file")
    for folder in (folder.resolve() for folder in folders):
        database = target.parent == folder and target.name.startswith(("store.sqlite", "tuning.sqlite", ".lock"))
        if database or {folder / "weights", folder / "snapshots", folder / "claims"} & {*target.parents}:
            raise InputError(f"{option}{output}: would damage the results folder; name another file")


def require_store(results: Path) -> None:
    try:
        there = results.is_dir()
    except OSError as error:
        raise InputError(f"results folder: {error.strerror or error}") from None
    if not there:
        raise InputError(f"results folder {results}: not there; run a suite first, or name another with --results")
