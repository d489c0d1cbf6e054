"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sgabench.cli.project import or_data, or_results, with_plugins


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


class Executor(StrEnum):
    local = "local"
    ray = "ray"


class Retry(StrEnum):
    failed = "failed"


SuiteFile = Annotated[
    Path, typer.Argument(metavar="SUITE", help="Suite file (TOML), or the name of a shipped one, e.g. quickstart.")
]
Results = Annotated[
    Path, typer.Option(metavar="DIR", callback=or_results, help="Results folder: records, weights, leaderboards.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", envvar="SGABENCH_DATA", callback=or_data, help="The data folder. Default: data."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the suite, e.g. training.epochs=2. Repeatable."),
]
Only = Annotated[
    str | None, typer.Option(metavar="GLOB", help="Only trials (dataset/model/optimizer/seed) that match.")
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        callback=with_plugins,
        help="Python file that registers plugins, in addition to the project file's. Repeatable.",
    ),
]
PRECISION = "SGABENCH_PRECISION"  # an environment variable
InPrecision = Annotated[
    Precision,
    typer.Option(
        "--precision",
        envvar=PRECISION,
        help="For recipes that allow bf16; auto: bf16 where it is faster, which is measured once per machine.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before running more than 100,000 cells.")]


def _jobs(value: str | int) -> int | str:
    text = str(value)  # the default is a number already
    if text == "auto" or (text.isdecimal() and 0 < int(text) < 10_000):
        return text if text == "auto" else int(text)
    raise typer.BadParameter(f"{text!r} is neither a positive integer nor 'auto'")


Jobs = Annotated[
    Any,
    typer.Option(
        metavar="N|auto",
        parser=_jobs,
        help="Trials at the same time; auto: one per core, or as many as suit a GPU best.",
    ),
]


def _shard(value: str) -> tuple[int, int]:
    number, slash, parts = value.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts) < 1_000_000):
        raise typer.BadParameter(f"{value!r} is not K/N with integers, K from 1 to N")
    return int(number), int(parts)


Shard = Annotated[
    Any,
    typer.Option(metavar="K/N", parser=_shard, help="Only the K-th of N parts of the trials, for batch jobs."),
]
StorageUrl = Annotated[
    str | None,
    typer.Option(
        "--storage", metavar="URL", help="Keep weights and snapshots in this folder or fsspec URL, not in the results."
    ),
]
RunOn = Annotated[Executor, typer.Option("--executor", help="Where trials run: here, or on a Ray cluster.")]
Address = Annotated[
    str | None,
    typer.Option(metavar="auto|HOST:PORT", help="The Ray cluster. Default: RAY_ADDRESS, else one on this machine."),
]
TrialCpus = Annotated[int | None, typer.Option(metavar="N", min=1, help="On Ray: CPUs, and threads, per trial [1].")]
TrialGpus = Annotated[
    float | None, typer.Option(metavar="X", min=0, help="On Ray: GPUs per trial, or a fraction of one. Default: none.")
]
DEFAULT_RESULTS = Path("results")
