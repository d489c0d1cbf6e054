"""Whether the rows of a table were made in the same way: code, versions, device, precision, threads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

MOST = 4  # values or tables that a line names
# Facts that do not change numbers, and those that have phrases of their own.
_IGNORED = {"code", "commit", "cores", "gpu", "gpu_memory", "cpu", "system", "packages", "bf16"}
_VERSIONS = ("python", "cuda", "cudnn")
_WORDS = {"precision": "in different precision", "threads": "with different numbers of threads"}

Environment = Mapping[str, Any]


def mixed(environments: Sequence[Environment]) -> list[str]:
    """How environments differ in what can change numbers: a phrase for each kind of fact.

    ``with different code: sgabench 0.1.0 (a1b2c3) and sgabench 0.1.0 (d4e5f6)``.
    """
    if len(environments) < 2:
        return []
    phrases = [_phrase("with different code", {_code(environment) for environment in environments})]
    versions = [_versions(environment) for environment in environments]
    for name in sorted({name for of in versions for name in of}):
        # A package that only some optimizers need is in the environments of their trials alone.
        compared = versions if name in _VERSIONS else [of for of in versions if name in of]
        phrases.append(_phrase(f"with different versions of {name}", {of.get(name, "none") for of in compared}))
    phrases.append(_phrase("on different devices", {_device(environment) for environment in environments}))
    known = {name for environment in environments for name in environment} - _IGNORED - {"device", *_VERSIONS}
    for name in sorted(known, key=lambda name: (name not in _WORDS, name)):
        words = _WORDS.get(name, f"with different {name}")
        phrases.append(_phrase(words, {str(environment.get(name, "unknown")) for environment in environments}))
    return [phrase for phrase in phrases if phrase]


def mixed_rows(trials: pd.DataFrame, cells: pd.DataFrame, environments: Sequence[Environment]) -> tuple[str, ...]:
    """A line for each way in which rows of one table were made differently.

    Args:
        trials, cells: as in `sgabench.evidence.leaderboard.Tables`.
        environments: numbered by their column ``environment``.
    """
    if len(environments) < 2:
        return ()
    made_in: dict[tuple[str, str], set[int]] = {}
    for frame in (trials, cells):
        if "environment" in frame:
            done = frame[frame["status"].isin(["done", "diverged"]) & frame["environment"].notna()]
            different = done[["dataset", "model", "environment"]].drop_duplicates()
            for dataset, model, number in different.itertuples(index=False, name=None):
                made_in.setdefault((dataset, model), set()).add(int(number))
    tables: dict[str, list[str]] = {}
    for (dataset, model), numbers in made_in.items():
        for phrase in mixed([environments[number] for number in sorted(numbers)]):
            tables.setdefault(phrase, []).append(f"{dataset}, {model}")
    return tuple(
        ("" if len(names) == len(made_in) else f"{_some(names, '; ')}: ") + f"rows of one table were made {phrase}"
        for phrase, names in tables.items()
    )


def code_of(environment: Environment) -> str:
    """Version and hash of the code: ``0.1.0 (a1b2c3)``; what is unknown is left out."""
    version = environment["packages"].get("sgabench", "")
    code = environment.get("code")
    return " ".join(part for part in (version, f"({code[:6]})" if code else "") if part)


def _code(environment: Environment) -> str:
    return f"sgabench {code_of(environment) or '(unknown)'}"


def _versions(environment: Environment) -> dict[str, str]:
    packages = {name: str(version) for name, version in environment["packages"].items() if name != "sgabench"}
    return packages | {name: str(environment[name]) for name in _VERSIONS if name in environment}


def _device(environment: Environment) -> str:
    return f"{environment['device']} ({environment.get('gpu') or environment['cpu']})"


def _phrase(words: str, values: Collection[str]) -> str:
    return f"{words}: {_some(sorted(values), ', ', ' and ')}" if len(values) > 1 else ""


def _some(names: Sequence[str], between: str, last: str | None = None) -> str:
    """A list of names in words; of many, the first few."""
    if len(names) > MOST:
        return between.join(names[:MOST]) + f"{between}and {len(names) - MOST} more"
    return between.join(names) if last is None or len(names) < 2 else between.join(names[:-1]) + last + names[-1]
