"""A store with all that a store has, ways of damaging files, and being somebody who may not write."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from support import DENSE, ENVIRONMENT, PRUNED

from sgabench.store.store import Record, Store, weights_path
from sgabench.suite.plan import Plan

# How many cases a test tries: a few with all the other tests, all of them with `make torture`.
FULL = bool(os.environ.get("SGABENCH_TORTURE"))


def weights_of(key: str) -> bytes:
    """Stand-ins for trained weights, which nobody loads."""
    return random.Random(key).randbytes(2000)


def fill_whole(store: Store, plan: Plan, *, weights: bool = True, shift: float = 0.0) -> None:
    """Store a trial, a cell and a probe for everything of a plan, with weights and details."""
    for trial in plan.trials:
        who = (trial.optimizer.name, trial.seed)
        content = weights_of(f"{trial.key}{shift or ''}")
        if weights:
            weights_path(store.folder, trial.key).write_bytes(content)
        result = {"top1": DENSE[who] - shift, "loss": 1.0, "seconds": 3.5, "precision": "fp32"}
        result["weights_sha256"] = hashlib.sha256(content).hexdigest()
        detail = {"history": [{"epoch": n, "loss": 1 / n, "seconds": 0.5} for n in range(1, 30)]}
        made = Record(
            trial.key, "trial", None, "done", trial.labels(), trial.description(), ENVIRONMENT, result, detail
        )
        store.put(made)
        for cell in trial.cells:
            pruned = {"top1": PRUNED[who], "retention": PRUNED[who] / DENSE[who], "images_per_s": 100.0}
            labels, description = trial.labels(cell), cell.description()
            store.put(Record(cell.key, "cell", trial.key, "done", labels, description, ENVIRONMENT, pruned))
        for probe in trial.probes:
            labels, what = (
                {**trial.labels(), "probe": probe.probe.label},
                {**probe.probe.identity(), "subject": trial.key},
            )
            detail = {"zeros": [0.5] * 40}
            store.put(Record(probe.key, "probe", trial.key, "done", labels, what, ENVIRONMENT, {}, detail))


def everything(store: Store) -> dict[str, Record]:
    """All records, whole, by key."""
    return {record.key: record for kind in ("trial", "cell", "probe") for record in store.records(kind, detail=True)}


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes after one mishap: flipped bits, overwritten, lost, repeated or exchanged pieces."""
    size = len(content)
    at = chance.randrange(size)
    length = min(chance.choice([1, 4, 16, 100, 512, 4096]), size)
    other = chance.randrange(size)
    match chance.choice(["flip", "flip", "flip", "overwrite", "zero", "truncate", "lose", "repeat", "exchange"]):
        case "flip":
            return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
        case "overwrite":
            return content[:at] + chance.randbytes(length) + content[at + length :]
        case "zero":
            return content[:at] + bytes(length) + content[at + length :]
        case "truncate":
            return content[:at]
        case "lose":
            return content[:at] + content[at + length :]
        case "repeat":
            return content[:at] + content[at : at + length] + content[at:]
        case _:
            swapped = bytearray(content)
            one, two = sorted((at, other))
            length = min(length, two - one, size - two)
            swapped[one : one + length], swapped[two : two + length] = (
                content[two : two + length],
                content[one : one + length],
            )
            return bytes(swapped)


# Root may have a TMPDIR of its own that is closed to whoever it pretends to be.
PUBLIC = "/tmp" if hasattr(os, "geteuid") and os.geteuid() == 0 else tempfile.gettempdir()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Be somebody who may read a folder and not write to it, even where the tests run as root."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    try:
        if root:
            os.setresuid(65534, 65534, 0)  # os.access asks for the real user
        with mock.patch.object(tempfile, "tempdir", PUBLIC):
            yield
    finally:
        if root:
            os.setresuid(0, 0, 0)
        for path, mode in modes.items():
            if path.exists():
                path.chmod(mode)
