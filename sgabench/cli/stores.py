"""Commands for results folders: doctor, export, import and merge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgabench.cli.app import app
from sgabench.cli.common import plan_of, require_store
from sgabench.cli.options import DEFAULT_RESULTS, DataDir, Only, Plugins, Results, Set
from sgabench.cli.outputs import Force, prepare_output
from sgabench.cli.project import find_project
from sgabench.errors import counted

if TYPE_CHECKING:
    from sgabench.store.merging import Merged


@app.command()
def doctor(
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set aside what is damaged, after a backup; run recomputes it.")
    ] = False,
) -> None:
    """Check the store, its weights, versions, data sets and devices.

    Exit code 0; 1 when there are problems; 2 for bad input.
    """
    from sgabench.store.doctor import as_text, examine
    from sgabench.store.repair import repair as repair_folder

    project = find_project()
    if repair or results not in (DEFAULT_RESULTS, project.results if project else None):
        require_store(results)
    if repair:
        typer.echo("\n".join(repair_folder(results) or ["nothing to repair"]) + "\n")
    checks = examine(results, data_dir or Path("data"))
    typer.echo(as_text(checks))
    if any(check.state == "problem" for check in checks):
        raise typer.Exit(1)


@app.command("export")
def export_archive(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write.")],
    results: Results = DEFAULT_RESULTS,
    suite: Annotated[
        Path | None, typer.Option(metavar="SUITE", help="Only trials and cells of this suite. Default: all.")
    ] = None,
    weights: Annotated[bool, typer.Option(help="Include the trained weights.")] = False,
    data_dir: DataDir = None,
    only: Only = None,
    set_: Set = None,
    plugin: Plugins = None,
    force: Force = False,
) -> None:
    """Write records, and weights on request, to one portable file."""
    from sgabench.store.archive import export
    from sgabench.suite.plan import keys_of

    require_store(results)
    prepare_output(file, [suite, *(plugin or ())], [results], replace=force, option="")
    keys = keys_of(plan_of(suite, results, data_dir, only, set_, plugin)) if suite else None
    exported = export(file, results, keys, weights=weights)
    typer.echo(f"{file}: {counted(exported.records, 'record')}, weights of {counted(exported.weights, 'trial')}")
    if exported.without:
        typer.echo(f"{counted(exported.without, 'trial has', 'trials have')} no weights in {results}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive that export wrote.")],
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Import the records and weights of an archive into a results folder, all or nothing.

    Exit code 0; 1 when records conflict with existing ones, which are kept; 2 for bad input.
    """
    from sgabench.store.archive import import_archive

    _print_merged([(file, import_archive(file, results))])


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Results folders of other machines.")],
    results: Annotated[Path, typer.Option(metavar="DIR", help="The results folder to merge into.")],
) -> None:
    """Merge the records and weights of other results folders into one.

    Exit code 0; 1 when records conflict (the first is kept); 2 for bad input.
    """
    from sgabench.store.merging import merge as merge_folders

    _print_merged(merge_folders(folders, results))


def _print_merged(sources: list[tuple[Path, Merged]]) -> None:
    for source, merged in sources:
        parts = [
            f"{counted(merged.new, 'record')} and the weights of {counted(merged.weights, 'trial')} imported",
            f"{merged.same} already there",
        ]
        if merged.kept:
            parts.append(f"{merged.kept} only failed there")
        if merged.conflicts:
            parts.append(f"{len(merged.conflicts)} in conflict with what is here, which is kept")
        if merged.left_out:
            parts.append(f"{merged.left_out} left out, of networks that were not imported")
        typer.echo(f"{source}: {'; '.join(parts)}")
        for name in merged.conflicts:
            typer.echo(f"  conflict: {name}")
    if any(merged.conflicts for _, merged in sources):
        raise typer.Exit(1)
