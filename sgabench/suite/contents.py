"""The content that plugins read, which enters the keys: declared files, and data identified by fingerprints."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from sgabench.errors import InputError, foreign, shorten
from sgabench.plugins.registry import SECTIONS
from sgabench.suite.checkpoints import NO_OPTIMIZER
from sgabench.suite.choices import Choice
from sgabench.suite.resolving import Suite


def with_contents(suite: Suite, data_dir: Path) -> Suite:
    """The suite, with the content that each choice reads in its identity.

    Raises:
        InputError: a file or data is missing, or a fingerprint fails.
    """
    read = {
        section: tuple(with_content(registry.kind, choice, data_dir) for choice in getattr(suite, section))
        for section, registry in SECTIONS.items()
    }
    brought = []
    for checkpoint in suite.checkpoints:
        optimizer = checkpoint.optimizer
        if optimizer.name != NO_OPTIMIZER:
            optimizer = with_content("optimizer", optimizer, data_dir)
        known = replace(checkpoint, model=read["models"][suite.models.index(checkpoint.model)], optimizer=optimizer)
        brought.append(known.with_content())
    return replace(suite, **read, checkpoints=tuple(brought))  # type: ignore[arg-type]


def with_content(kind: str, choice: Choice, data_dir: Path) -> Choice:
    """Put the content that a plugin reads into its identity; a fingerprint replaces the option ``path``.

    Raises:
        InputError: a file or data is missing, or the fingerprint fails.
    """
    settings = dict(choice.settings)
    if files := choice.tags.get("files"):
        settings["files"] = {name: _hash(f"{kind} {choice.label!r}", name, path) for name, path in files.items()}
    if fingerprint := choice.tags.get("fingerprint"):
        with foreign(f"{kind} {choice.label!r}: its fingerprint fails: "):
            content = fingerprint(data_dir, dict(choice.options))
        if not isinstance(content, str):
            raise InputError(f"{kind} {choice.label!r}: its fingerprint is {shorten(content)}, not a text")
        settings["content"] = content
    return choice if settings == choice.settings else replace(choice, settings=settings)


def _hash(where: str, name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise InputError(f"{where}: {name}, which it declares: {error.strerror or error}") from None
