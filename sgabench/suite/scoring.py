"""Suites without a file: networks to be scored by a command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sgabench.errors import InputError, shorten
from sgabench.plugins.registry import datasets
from sgabench.suite.choices import Choice
from sgabench.suite.overrides import apply_override
from sgabench.suite.plan import content_key
from sgabench.suite.resolving import Suite, load_suite, resolve, resolve_datasets
from sgabench.suite.shipped import shipped_suites

RATIOS = (0.5, 0.8, 0.9)
PUBLISHED = ("timm", "torchvision")  # sources of models with weights


def scoring_suite(
    weights: Sequence[str],
    model: str,
    dataset: str,
    pruners: Sequence[str | Mapping[str, Any]] = ("magnitude",),
    ratios: Sequence[float] = RATIOS,
    normalize: str = "data",
    overrides: Sequence[str] = (),
    *,
    pretrained: bool = False,
) -> Suite:
    """A suite of checkpoints of one model on one data set.

    Args:
        weights: files, each with a label as ``LABEL=FILE``, or labelled by its name. Several with the same label are
            replicates.
        model, dataset: as in suites; ``folder:PATH`` is the data set `folder` with this path.
        pruners: names, or tables as in ``[[pruners]]``.
        ratios: of every pruner.
        normalize: ``data``, ``pretrained``, or ``MEAN/STD`` with a number or one for each channel: ``0.5,0.4,0.4/0.2``.
        overrides: ``key=value`` settings as for ``--set``.
        pretrained: use the model's published weights instead of files.

    Raises:
        InputError: anything wrong.
    """
    if pretrained and weights:
        raise InputError("--pretrained: replaces weights files; leave one out")
    if not pretrained and not weights:
        raise InputError(
            "name weights files, or --pretrained for the published weights of a timm: or torchvision: model"
        )
    if pretrained and model.partition(":")[0] not in PUBLISHED:
        raise InputError(
            f"--pretrained: no weights of {shorten(model)} are published; models of timm: and torchvision: have some"
        )
    files = [{"label": label, "weights": file} for label, file in _labelled(weights)]
    images = dataset_table(dataset)
    data: dict[str, Any] = {
        "name": "score",
        "ratios": list(ratios),
        "datasets": [images],
        "models": [{"name": model, **({"pretrained": True} if pretrained else {})}],
        "checkpoints": [{"label": "pretrained"}] if pretrained else files,
        "pruners": [{"name": pruner} if isinstance(pruner, str) else dict(pruner) for pruner in pruners],
    }
    if normalize != "data":
        images["normalize"] = normalize if normalize == "pretrained" else _constants(normalize)
    for override in overrides:
        apply_override(data, override)
    suite = resolve(data, Path("score"))
    folder = f"{suite.name}-{content_key(data)[:6]}"
    return replace(suite, folder=folder, looks_folder=folder)


def dataset_table(text: str) -> dict[str, Any]:
    """The entry of ``[[datasets]]`` for ``NAME`` or ``NAME:PATH``, with the folder's name as its label."""
    name, _, path = text.partition(":")
    if not path:
        if name not in datasets and Path(name).expanduser().is_dir():
            raise InputError(f"data set {shorten(name)}: is a folder; write 'folder:{name}' for the images in it")
        return {"name": name}
    return {"name": name, "path": str(Path(path).expanduser().absolute()), "label": Path(path).name or name}


def named_datasets(names: Sequence[str], overrides: Sequence[str] = ()) -> tuple[Choice, ...]:
    """The data sets of suites, or those named as for `scoring_suite`.

    For a folder with class folders but no splits, a split is drawn: its images are the same, whatever the split.

    Args:
        names: suite files, shipped suites, data sets.
        overrides: ``key=value`` settings as of ``--set``.

    Raises:
        InputError: anything wrong.
    """
    found: list[Choice] = []
    for name in names:
        if name.endswith(".toml") or name in shipped_suites():
            found += load_suite(name, overrides).datasets
            continue
        table = dataset_table(name)
        if table["name"] in ("folder", "huggingface") and "path" in table:
            splits = [Path(table["path"]) / split for split in ("train", "test")]
            table |= {} if any(split.is_dir() for split in splits) else {"split": {"test": 0.2}}
        data: dict[str, Any] = {"datasets": [table]}
        for override in overrides:
            apply_override(data, override)
        found += resolve_datasets(data["datasets"])
    return tuple(found)


def _constants(text: str) -> dict[str, list[float]]:
    try:
        mean, std = ([float(number) for number in part.split(",")] for part in text.split("/"))
    except ValueError:
        raise InputError(
            f"--normalize {text}: must be data, pretrained or MEAN/STD, e.g. 0.5,0.5,0.5/0.25,0.25,0.25"
        ) from None
    return {"mean": mean, "std": std}


def _labelled(weights: Sequence[str]) -> list[tuple[str, str]]:
    """Label and file of each; the default label is the file's name, with its folder if names are equal."""
    split = [("", text) if Path(text).is_file() else _split(text) for text in weights]
    names = Counter(Path(file).stem for label, file in split if not label)
    found = []
    for label, file in split:
        path = Path(file).absolute()
        own = path.stem if names[path.stem] == 1 else f"{path.parent.name} {path.stem}"
        found.append((label or own, str(path)))
    called = Counter(label for (given, _), (label, _) in zip(split, found, strict=True) if not given)
    twice = [label for label, number in called.items() if number > 1]
    if twice:
        raise InputError(f"several files would be called {shorten(twice[0])}; write LABEL=FILE")
    return found


def _split(text: str) -> tuple[str, str]:
    label, equals, file = text.partition("=")
    return (label, file) if equals else ("", text)
