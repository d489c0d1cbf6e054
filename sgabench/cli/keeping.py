"""The command that keeps pruned networks: prune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgabench.cli.app import app
from sgabench.cli.common import plan_of, require_store, stoppable
from sgabench.cli.options import DEFAULT_RESULTS, DataDir, Device, Plugins, Results, Set, SuiteFile
from sgabench.cli.outputs import prepare_folder
from sgabench.errors import InputError

if TYPE_CHECKING:
    from sgabench.store.store import Record


@app.command()
def prune(
    suite: SuiteFile,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Write the networks into this folder.")],
    only: Annotated[
        str,
        typer.Option(
            metavar="GLOB", help="Only networks (dataset/model/optimizer/seed/pruner/ratio) that match. Default: all."
        ),
    ] = "*",
    export: Annotated[bool, typer.Option("--export", help="Also write each with torch.export (.pt2).")] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write each as ONNX; needs the extra export.")] = False,
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    set_: Set = None,
    plugin: Plugins = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
) -> None:
    """Prune stored networks as a suite's cells specify, and keep the results: weights and how to rebuild a network.

    Nothing is trained that the cells do not ask for. Exit code 0, or 2 for bad input.
    """
    require_store(results)
    prepare_folder(output, [results])
    plan = plan_of(suite, results, data_dir, None, set_, plugin)
    from sgabench.running.keeping import keep
    from sgabench.running.kept import Kept
    from sgabench.running.options import Options

    def on_file(path: Path, record: Record) -> None:
        labels, top1 = record.labels, 100 * record.result["top1"]
        name = f"{labels['optimizer']}/{labels['seed']}/{labels['pruner']}/{labels['ratio']:g}"
        typer.echo(f"{path}: {name}, top-1 {top1:.1f} %, {record.result['nonzero_params']} non-zero parameters")

    try:
        with stoppable():
            options = Options(results, data_dir, device=device.value, plugins=tuple(plugin or ()))
            keep(plan, only, Kept(output, export, onnx), options, on_file)
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror or error}") from None
