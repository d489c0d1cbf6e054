"""The command that scores trained networks without a suite."""

from __future__ import annotations

from typing import Annotated

import typer

from sgabench.cli.app import app
from sgabench.cli.common import load_plugins, stoppable
from sgabench.cli.options import DEFAULT_RESULTS, DataDir, Device, Jobs, Plugins, Results, Set


@app.command()
def score(
    model: Annotated[str, typer.Option(metavar="NAME", help="Their model, e.g. resnet20, timm:resnet50, my_file:Net.")],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="The data set, e.g. cifar10, folder:PATH.")],
    weights: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LABEL=]WEIGHTS...", help="Weights files: .safetensors, .pt or .pth."),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="The published weights of a timm: or torchvision: model, instead of files."),
    ] = False,
    pruner: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A pruner. Repeatable. Default: magnitude.")
    ] = None,
    ratio: Annotated[
        list[float] | None, typer.Option(metavar="R", help="A ratio of every pruner. Repeatable. Default: 0.5 0.8 0.9.")
    ] = None,
    normalize: Annotated[
        str | None,
        typer.Option(
            metavar="data|pretrained|MEAN/STD",
            help="What they were trained with: the data's statistics (default without --pretrained), those of "
            "published weights (default with it), or numbers.",
        ),
    ] = None,
    results: Results = DEFAULT_RESULTS,
    data_dir: DataDir = None,
    download: Annotated[bool, typer.Option(help="Download a missing data set.")] = True,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    jobs: Jobs = 1,
    set_: Set = None,
    plugin: Plugins = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but failures.")] = False,
) -> None:
    """Prune trained networks of your own, and show how they compare; nothing is trained, and no suite is needed.

    A class or function NAME of FILE.py is a model with --plugin FILE.py --model FILE:NAME.
    Exit code 0; 1 when something failed (the rest still ran); 2 for bad input.
    """
    from sgabench.report.display import failure_lines
    from sgabench.report.progress import listener, print_tables
    from sgabench.report.run import run_and_write
    from sgabench.running.options import Options
    from sgabench.suite.plan import make_plan
    from sgabench.suite.scoring import RATIOS, scoring_suite

    load_plugins(plugin)
    plugins = tuple(path.resolve() for path in plugin or ())
    options = Options(results, data_dir, download, device.value, jobs, plugins=plugins)
    pruners, ratios = pruner or ["magnitude"], ratio or RATIOS
    seen = normalize or ("pretrained" if pretrained else "data")
    suite = scoring_suite(weights or (), model, dataset, pruners, ratios, seen, set_ or (), pretrained=pretrained)
    plan = make_plan(suite, options.data)
    with stoppable(), listener(quiet) as display:
        tables = run_and_write(plan, options, display)
    if not quiet:
        print_tables(tables, results / suite.folder)
    if len(tables.failures):
        for line in failure_lines(tables) if quiet else []:
            typer.echo(line, err=True)
        raise typer.Exit(1)
