"""Commands about this installation and this machine: list, env, bench and schema."""

from __future__ import annotations

import importlib
import inspect
import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from sgabench.cli.app import app
from sgabench.cli.common import load_plugins
from sgabench.cli.options import Device, Plugins
from sgabench.errors import InputError


class Kind(StrEnum):
    datasets = "datasets"
    models = "models"
    optimizers = "optimizers"
    pruners = "pruners"
    probes = "probes"
    scores = "scores"


class Subject(StrEnum):
    optimizers = "optimizers"
    training = "training"
    pruning = "pruning"
    inference = "inference"


class BenchFormat(StrEnum):
    table = "table"
    markdown = "markdown"
    json = "json"


@app.command("list")
def list_plugins(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    filter_: Annotated[
        str | None,
        typer.Option("--filter", metavar="TEXT", help="Only names and descriptions that contain this text."),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """List what a suite can name, with parameters, defaults and origin."""
    from sgabench.plugins.registry import REGISTRIES
    from sgabench.report.listing import print_listing

    load_plugins(plugin)
    registry = REGISTRIES[kind.value]
    print_listing(registry, filter_ or "")
    for problem in registry.broken.values():
        typer.echo(f"warning: {problem}", err=True)


@app.command()
def env(
    device: Annotated[Device, typer.Option(help="The device to describe.")] = Device.auto,
) -> None:
    """Show the environment as records keep it (JSON)."""
    from sgabench.plugins.registry import REGISTRIES
    from sgabench.system.environment import choose_device, cores, describe_environment

    for registry in REGISTRIES.values():
        registry.load()  # loading registers their facts about the machine

    typer.echo(json.dumps(describe_environment(choose_device(device.value), cores()), indent=2))


@app.command()
def bench(
    subject: Annotated[Subject, typer.Argument(help="What to measure.")],
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A model, as in a suite. Repeatable. Default: one to three per subject."),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Optimizers: lay weights out in memory as a training does.")
    ] = False,
    images: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Pruning: images of the test split. Default: 1000; on CUDA 10000."),
    ] = None,
    form: Annotated[BenchFormat, typer.Option("--format", help="Output format.")] = BenchFormat.table,
    plugin: Plugins = None,
) -> None:
    """Benchmark this machine: training, optimizer steps, one more ratio of a pruner, inference of pruned networks."""
    from sgabench.report.benchmark import render
    from sgabench.system.environment import choose_device

    load_plugins(plugin)
    measure = importlib.import_module(f"sgabench.bench.{subject.value}").measure
    options: dict[str, Any] = {"channels_last": channels_last or None, "images": images}
    given = {option: value for option, value in options.items() if value is not None}
    for option in given.keys() - inspect.signature(measure).parameters.keys():
        raise InputError(f"--{option.replace('_', '-')}: sgabench bench {subject.value} does not have this option")
    if "plugins" in inspect.signature(measure).parameters:
        given["plugins"] = plugin or ()
    typer.echo(render(measure(models or (), choose_device(device.value), **given), form.value), nl=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a suite file, for editors."""
    from sgabench.suite.tables import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
