"""Check whether a results folder is intact, and whether this machine can continue it."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sgabench.datasets.places import LAYOUTS, find
from sgabench.errors import InputError, foreign
from sgabench.store.database import SCHEMA_VERSION, Complaint, DamagedStore, connect
from sgabench.store.store import Record, Store, weights_path
from sgabench.system.environment import PACKAGES, cores
from sgabench.system.native import Unavailable, compiler_here
from sgabench.system.precision import precision_here

State = Literal["ok", "warning", "problem"]

REPAIR = "sgabench doctor --repair"


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what was checked.
        state: ``warning``: a run can continue; ``problem``: it cannot, or not with everything.
        message: the finding.
        mend: how to mend it.
    """

    name: str
    state: State
    message: str
    mend: str = ""


@dataclass(frozen=True)
class Findings:
    """Damage to the records and files of a store whose database can be read.

    Attributes:
        records: number of intact records.
        damaged: keys of damaged records.
        parentless: keys of records whose trial or cell is missing or damaged.
        without_weights: keys of trials whose weights are missing.
        damaged_weights: weights that do not match their record.
        orphans: files among the weights that belong to no trial.
        leftovers: incompletely written files.
        environments: of the records.
    """

    records: int
    damaged: tuple[str, ...]
    parentless: tuple[str, ...]
    without_weights: tuple[str, ...]
    damaged_weights: tuple[Path, ...]
    orphans: tuple[Path, ...]
    leftovers: tuple[Path, ...]
    environments: tuple[Mapping[str, Any], ...]


def examine(results: Path, data_dir: Path) -> list[Check]:
    """Check everything: the store, weights, versions, data sets, devices and the compiler.

    Raises:
        InputError: the folder is not a results folder, or was written by a newer version.
    """
    return [*check_store(results), check_data_sets(data_dir), *check_devices(), check_kernels()]


def check_store(results: Path) -> list[Check]:
    """Check a results folder without changing it."""
    try:
        with Store(results) as store:
            if not store.path.exists():
                message = f"nothing is stored in {results}"
                checks = [Check("store", "ok", message)]
            else:
                checks = [Check("store", "ok", f"version {SCHEMA_VERSION}"), _check_structure(store.path)]
            if any(check.state == "problem" for check in checks):
                return [*checks, check_versions([])]
            found = inspect(store)
    except DamagedStore as error:
        mend = f"{REPAIR} keeps every record with a valid checksum, after a backup; run recomputes the others"
        return [Check("store", "problem", str(error), mend), check_versions([])]
    return [*checks, *_check_records(found), *_check_files(found), check_versions(found.environments)]


def inspect(store: Store) -> Findings:
    """Read every record and every file of weights."""
    sound: dict[str, Record] = {}
    damaged = []
    for key, record in store.examine():
        if record is None:
            damaged.append(key)
        else:
            sound[key] = record
    rooted: set[str] = set()
    for kind, parents in (("trial", ()), ("cell", ("trial",)), ("probe", ("trial", "cell"))):
        for key, record in sound.items():
            parent = record.parent
            if record.kind == kind and (not parents or (parent in rooted and sound[str(parent)].kind in parents)):
                rooted.add(key)
    trials = {key: record for key, record in sound.items() if record.kind == "trial" and record.status == "done"}
    expected = {weights_path(store.folder, key): record for key, record in trials.items()}
    there = sorted(store.weights.iterdir()) if store.weights.is_dir() else []
    leftovers = [*store.folder.glob(".*.part"), *store.folder.glob("*/.*.part")]
    return Findings(
        records=len(sound),
        damaged=tuple(damaged),
        parentless=tuple(key for key in sound if key not in rooted),
        without_weights=tuple(record.key for path, record in expected.items() if path not in there),
        damaged_weights=tuple(p for p in there if p in expected and not _is_intact(p, expected[p])),
        orphans=tuple(path for path in there if path not in expected and path not in leftovers),
        leftovers=tuple(sorted(leftovers)),
        environments=tuple({id(record.environment): record.environment for record in sound.values()}.values()),
    )


def _is_intact(path: Path, record: Record) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == record.result.get("weights_sha256")
    except OSError:
        return False


def _check_structure(path: Path) -> Check:
    with closing(connect(path)) as database:
        try:
            found = [finding for (finding,) in database.execute("PRAGMA integrity_check(3)")]
        except Complaint as error:
            found = [str(error)]
    if found == ["ok"]:
        return Check("database", "ok", "its structure is intact")
    return Check("database", "problem", _some(found), f"{REPAIR} rebuilds it from its intact records")


def _check_records(found: Findings) -> list[Check]:
    again = f"{REPAIR} removes them after a backup; run recomputes them"
    damaged = Check("records", "ok", f"{found.records}, all intact")
    if found.damaged:
        damaged = Check("records", "problem", f"{_of(found.damaged, 'record')} damaged", again)
    parents = Check("parents", "ok", "every cell has its trial, every probe its network")
    if found.parentless:
        parents = Check("parents", "problem", f"{_of(found.parentless, 'record')} without a trial or a cell", again)
    return [damaged, parents]


def _check_files(found: Findings) -> list[Check]:
    weights = Check("weights", "ok", "every trial has its own")
    if found.damaged_weights:
        message = f"{_of([path.name for path in found.damaged_weights], 'file')} damaged"
        weights = Check(
            "weights", "problem", message, f"run trains them again when a cell needs them; {REPAIR} moves them away"
        )
    elif found.without_weights:
        message = f"{_of(found.without_weights, 'trial')} without weights"
        weights = Check("weights", "warning", message, "nothing to do: run trains them again when a cell needs them")
    files = Check("files", "ok", "none without a record")
    strays = [path.name for path in (*found.orphans, *found.leftovers)]
    if strays:
        message = f"{_of(strays, 'file')} without a record, of an unfinished run"
        files = Check("files", "warning", message, f"{REPAIR} moves those that no run is writing to lost/")
    return [weights, files]


def check_versions(environments: Sequence[Mapping[str, Any]]) -> Check:
    """Compare the installed versions with those that the records were made with."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return Check("versions", "problem", f"{name} is not installed", "install sgabench again, with pip")
    others = sorted(
        {
            f"{name} {version}"
            for environment in environments
            for name, version in environment["packages"].items()
            if name in installed and version != installed[name]
        }
    )
    here = ", ".join(f"{name} {installed[name]}" for name in ("sgabench", "torch"))
    if others:
        message = f"{here}; some records were made with {_some(others)}"
        return Check("versions", "warning", message, "use a results folder for each set of versions")
    return Check("versions", "ok", here)


def check_data_sets(data_dir: Path) -> Check:
    """Load the data set that is always available, and list the others in the data folder without reading them."""
    try:
        with foreign("digits: "):
            from sgabench.datasets.embedded import load_digits

            load_digits()
    except InputError as error:
        return Check("data sets", "problem", str(error), "install scikit-learn again")
    there, absent = [], []
    for name, layouts in LAYOUTS.items():
        folder, missing = find(data_dir, layouts)
        if folder is None:
            absent.append(name)
        elif missing:
            message = f"{name}: {folder} lacks {_some(missing)}"
            return Check("data sets", "warning", message, f"complete it, or remove {folder} to download it again")
        else:
            there.append(name)
    message = "digits works"
    if there:
        message += f"; found in {data_dir}: {', '.join(there)}"
    if absent:
        message += f"; not in {data_dir}, and downloaded when a run needs them: {', '.join(absent)}"
    return Check("data sets", "ok", message)


def check_devices() -> list[Check]:
    """Compute a convolution with known result on every device."""
    try:
        with foreign("torch: "):
            import torch
    except InputError as error:
        return [Check("device", "problem", str(error), "install PyTorch again")]
    checks = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        message = f"{cores()} cores{precision_here()}" if device == "cpu" else torch.cuda.get_device_name(0)
        try:
            with foreign(""):
                ones = torch.ones(1, 1, 3, 3, device=device)
                sums = torch.nn.functional.conv2d(ones, ones, padding=1).flatten().tolist()
        except InputError as error:
            sums, message = [], str(error)
        right = sums == [4, 6, 4, 6, 9, 6, 4, 6, 4]
        mend = "" if right else "install a matching driver and PyTorch, or use the other --device"
        checks.append(
            Check(device, "ok" if right else "problem", message if right or not sums else f"gave {sums}", mend)
        )
    return checks


def check_kernels() -> Check:
    """Check whether the C++ kernels can be compiled, and what it costs if not."""
    try:
        return Check("kernels", "ok", f"compiled for this processor by {compiler_here()}")
    except Unavailable as error:
        message = (
            f"{error}; numbers are the same to rounding, but on the CPU StochGradAdam's step takes 4 to 7 times as "
            "long as PyTorch's fused Adam (compiled: as long), since NumPy draws its mask; and in CIFAR ResNets "
            "BatchNorm, sum and ReLU are operations of their own"
        )
        return Check("kernels", "warning", message, "install a C++ compiler, such as g++, or name one in CXX")


def as_text(checks: Sequence[Check]) -> str:
    """A line for each check, and one below it on how to mend it."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        message = str(InputError(check.message))  # makes it one line, whatever it quotes
        lines.append(f"{check.state:8} {check.name:{width}}  {message}")
        if check.state != "ok" and check.mend:
            lines.append(f"{'':8} {'':{width}}  -> {check.mend}")
    return "\n".join(lines)


def _of(items: Sequence[str], noun: str) -> str:
    return f"{len(items)} {noun}{'s' if len(items) > 1 else ''} ({_some(items)})"


def _some(items: Sequence[str]) -> str:
    shown = ", ".join(str(item) for item in items[:3])
    return shown + (f" and {len(items) - 3} more" if len(items) > 3 else "")
