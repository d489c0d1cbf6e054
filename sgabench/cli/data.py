"""The command about data sets."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgabench.cli.app import app
from sgabench.cli.common import load_plugins, stoppable
from sgabench.cli.options import DataDir, Plugins, Set
from sgabench.errors import InputError

if TYPE_CHECKING:
    from sgabench.suite.choices import Choice


class Action(StrEnum):
    list = "list"
    check = "check"
    prepare = "prepare"


@app.command()
def data(
    action: Annotated[Action, typer.Argument(help="list data sets, check every image, or prepare large ones.")],
    of: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SUITE|NAME|NAME:PATH...", help="Data sets: those of a suite, or names such as svhn, folder:PATH."
        ),
    ] = None,
    data_dir: DataDir = None,
    download: Annotated[bool, typer.Option(help="Download a missing data set.")] = True,
    set_: Set = None,
    plugin: Plugins = None,
) -> None:
    """List data sets, check their images, or decode them once before a run does.

    Exit code 0; 1 when check finds images that cannot be used; 2 for bad input.
    """
    from sgabench.report.progress import listener
    from sgabench.suite.scoring import named_datasets

    load_plugins(plugin)
    folder = data_dir or Path("data")
    if action is Action.list:
        from sgabench.report.data import print_data

        if of:
            raise InputError("data list takes no names: it lists what is in the data folder, see --data-dir")
        print_data(folder)
        return
    if not of:
        raise InputError(f"data {action.value}: name a suite or data sets, e.g. folder:PATH")
    sound = True
    with stoppable(), listener(quiet=False, idle=""):
        for choice in named_datasets(of, set_ or ()):
            do = _check if action is Action.check else _prepare
            sound = do(choice, folder, download) and sound
    if not sound:
        raise typer.Exit(1)


def _check(choice: Choice, data_dir: Path, download: bool) -> bool:
    from sgabench.datasets.examining import examine

    if "listing" not in choice.tags:
        _load(choice, data_dir, download)
        return True
    listing = choice.tags["listing"](data_dir, choice.options)
    problems, notes = examine(listing)
    counts = [sum(file.label == label for file in listing.all_files) for label in range(len(listing.classes))]
    splits = " + ".join(f"{len(files):,} {split}".strip() for split, files in listing.files.items())
    each = f"{min(counts):,} each" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,} each"
    about = f"{len(listing.classes)} classes, {each}"
    typer.echo(f"{choice.label} ({listing.root}): {splits} images, {about}")
    for line in [*(f"problem: {problem}" for problem in problems), *notes]:
        typer.echo(f"  {line}")
    return not problems


def _prepare(choice: Choice, data_dir: Path, download: bool) -> bool:
    from sgabench.datasets.prepared import Prepared
    from sgabench.system.memory import in_words

    if "listing" not in choice.tags:
        _load(choice, data_dir, download)
        return True
    listing, decoding = choice.tags["listing"](data_dir, choice.options), choice.tags["decoding"](choice.options)
    paths = [file.source for file in listing.all_files]
    prepared = Prepared.of(choice.name, listing.root, paths, decoding, data_dir, listing.stored)
    there = prepared.open() is not None
    if not there:
        prepared.make()
    size = " x ".join(map(str, decoding.shape))
    summary = f"{choice.label}: {len(paths):,} images of {size}, {in_words(prepared.bytes)}, in {prepared.folder}"
    typer.echo(f"{summary}{' already' if there else ''}")
    return True


def _load(choice: Choice, data_dir: Path, download: bool) -> None:
    from sgabench.plugins.registry import datasets

    loaded = datasets[choice.name].build(data_dir, download, **choice.options)
    shape = " x ".join(map(str, loaded.train_images.shape[1:]))
    counts = f"{len(loaded.train_labels):,} train + {len(loaded.test_labels):,} test images of {shape}"
    typer.echo(f"{choice.label}: {counts}, {len(loaded.classes)} classes; valid, and used as it is")
