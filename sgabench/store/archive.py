"""A portable archive of records and weights: a zip file, with weights uncompressed.

It contains ``manifest.json`` (format, checksums), ``records.jsonl`` (a record per line, parents first) and, if
requested, ``weights/KEY.safetensors``. No member is ever written to a path that the archive names, or decompressed
beyond the limits below.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sgabench.errors import InputError, first_problem
from sgabench.store.forms import fits, is_context
from sgabench.store.merging import Merged, absorb, chunks
from sgabench.store.store import KINDS, Record, Store, atomic_file

FORMAT = 1
MANIFEST, RECORDS = "manifest.json", "records.jsonl"
MIB = 2**20
MOST_MANIFEST = 64 * MIB
MOST_RECORD = 64 * MIB
MOST_RECORDS = 2048 * MIB
MOST_WEIGHTS = 16384 * MIB  # of one trial; in total, no more than the size of the archive
MOST_LEVELS = 50  # of nested lists and objects
_KEY = r"^[0-9a-f]{32}$"
_WEIGHTS = re.compile(r"weights/([0-9a-f]{32})\.safetensors")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Manifest(_Strict):
    format: Literal[1]
    sgabench: str
    files: dict[str, str]  # SHA-256 of every other member


class _Line(_Strict):
    key: str = Field(pattern=_KEY)
    kind: Literal["trial", "cell", "probe"]
    parent: str | None = Field(pattern=_KEY)
    status: Literal["done", "failed", "diverged"]
    labels: dict[str, Any]
    description: dict[str, Any]
    environment: dict[str, Any]
    result: dict[str, Any]
    detail: dict[str, Any]
    error: str
    finished_at: float


@dataclass
class Exported:
    """The content of an archive; ``without``: trials whose requested weights are missing."""

    records: int = 0
    weights: int = 0
    without: int = 0


def export(file: Path, results: Path, keys: Collection[str] | None, *, weights: bool) -> Exported:
    """Write the records of a results folder, or those of some keys, into an archive.

    Raises:
        InputError: a record or its weights are damaged, or the file cannot be written.
    """
    exported = Exported()
    try:
        with Store(results) as store, atomic_file(file) as target, zipfile.ZipFile(target, "w") as archive:
            files, trials = {}, []
            digest = hashlib.sha256()
            with archive.open(_info(RECORDS, zipfile.ZIP_DEFLATED), "w", force_zip64=True) as lines:
                for record in _with_parents(store, keys):
                    line = json.dumps(asdict(record), sort_keys=True, separators=(",", ":")).encode() + b"\n"
                    digest.update(line)
                    lines.write(line)
                    exported.records += 1
                    if weights and record.kind == "trial" and record.status == "done":
                        trials.append(record)
            files[RECORDS] = digest.hexdigest()
            for record in trials:
                path = store.weights_path(record.key)
                if not path.is_file():
                    exported.without += 1
                    continue
                name = f"weights/{path.name}"
                files[name] = _add_weights(archive, name, path, record, results)
                exported.weights += 1
            manifest = {"format": FORMAT, "sgabench": importlib.metadata.version("sgabench"), "files": files}
            archive.writestr(_info(MANIFEST, zipfile.ZIP_DEFLATED), json.dumps(manifest, indent=1))
    except OSError as error:
        raise InputError(f"{file}: cannot write: {error.strerror or error}") from None
    return exported


def _info(name: str, compression: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)  # dated 1980, so that the same records give the same bytes
    info.compress_type = compression
    info.external_attr = 0o644 << 16
    return info


def _with_parents(store: Store, keys: Collection[str] | None) -> Iterator[Record]:
    """Records, parents first, without those that a concurrent run stored after their parent was passed."""
    there: set[str] = set()
    for kind in KINDS:
        for record in store.records(kind, keys, detail=True):
            if record.parent is None or record.parent in there:
                there.add(record.key)
                yield record


def _add_weights(archive: zipfile.ZipFile, name: str, path: Path, record: Record, results: Path) -> str:
    digest = hashlib.sha256()
    with archive.open(_info(name, zipfile.ZIP_STORED), "w", force_zip64=True) as target, path.open("rb") as source:
        for chunk in chunks(source):
            digest.update(chunk)
            target.write(chunk)
    if digest.hexdigest() != record.result.get("weights_sha256"):
        raise InputError(f"{path}: not its record's weights; sgabench doctor --results {results} --repair")
    return digest.hexdigest()


def import_archive(file: Path, results: Path) -> Merged:
    """Import the records and weights of an archive into a results folder, all of them or nothing.

    Raises:
        InputError: the file is not an archive, is damaged or violates a limit, or the folder cannot be written.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; name an archive that sgabench export wrote")
    with _refusing_damage(file):
        archive = zipfile.ZipFile(file)
    with archive:
        source = _Archive(archive, file)
        with _refusing_damage(file):
            source.check()
        with Store(results, create=True) as store, store.writing():
            return absorb(store, source)


@contextmanager
def _refusing_damage(file: Path) -> Iterator[None]:
    """Turn the standard library's exceptions for damaged or hostile zip files into one line."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        ArithmeticError,
        RuntimeError,
        ValueError,
    ) as error:
        raise InputError(
            f"{file}: not an archive of sgabench export, or damaged ({error}); nothing was imported"
        ) from None


@dataclass(frozen=True)
class _Archive:
    archive: zipfile.ZipFile
    file: Path

    def check(self) -> None:
        """Read everything once, before anything is imported."""
        members = self._members()
        files = self._manifest().files
        if files.keys() | {MANIFEST} != members.keys() or RECORDS not in files:
            self._refuse("its members are not those of its manifest")
        for name, expected in files.items():
            digest = hashlib.sha256()
            with self.archive.open(name) as member:
                for chunk in chunks(member):
                    digest.update(chunk)
            if digest.hexdigest() != expected:
                self._refuse(f"{name} does not match its checksum")
        kinds: dict[str, str] = {}
        of_trials = {}
        for record in self.records():
            allowed = {"trial": (None,), "cell": ("trial",), "probe": ("trial", "cell")}[record.kind]
            if record.key in kinds or kinds.get(record.parent or "") not in allowed:
                self._refuse(f"record {record.key} appears twice, or its trial or cell does not come before it")
            kinds[record.key] = record.kind
            if record.kind == "trial" and record.status == "done":
                of_trials[f"weights/{record.key}.safetensors"] = record.result.get("weights_sha256")
        for name in files.keys() - {RECORDS}:
            if files[name] != of_trials.get(name):
                self._refuse(f"{name} are not the weights of a record")

    def _members(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        stored = 0
        for info in self.archive.infolist():
            name = info.orig_filename
            weights = _WEIGHTS.fullmatch(name)
            most = MOST_WEIGHTS if weights else {MANIFEST: MOST_MANIFEST, RECORDS: MOST_RECORDS}.get(name, -1)
            methods = (zipfile.ZIP_STORED,) if weights else (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            stored += info.file_size if weights else 0
            if most < 0:
                self._refuse(f"{name!r} is not the name of a member")
            if name in members:
                self._refuse(f"{name} appears twice")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                self._refuse(f"{name} is a link, a folder or a device")
            if info.compress_type not in methods or info.flag_bits & 1:
                self._refuse(f"{name} is encrypted, or compressed in a way that export does not use")
            if info.file_size > most or stored > self.file.stat().st_size:
                self._refuse(f"{name} has {info.file_size} bytes, more than are taken")
            members[name] = info
        return members

    def _manifest(self) -> _Manifest:
        if MANIFEST not in self.archive.namelist():
            self._refuse(f"it has no {MANIFEST}")
        data = self._json(self.archive.read(MANIFEST), MANIFEST)
        found = data.get("format") if isinstance(data, dict) else None
        if isinstance(found, int) and found > FORMAT:
            self._refuse(f"format {found} is of a newer sgabench, this one reads up to {FORMAT}; upgrade sgabench")
        try:
            return _Manifest.model_validate(data)
        except ValidationError as error:
            self._refuse(f"{MANIFEST}: {_in_words(error)}")

    def records(self) -> Iterator[Record]:
        """Every record, checked."""
        with self.archive.open(RECORDS) as lines:
            number = 0
            while line := lines.readline(MOST_RECORD + 1):
                number += 1
                where = f"{RECORDS}, line {number}"
                if len(line) > MOST_RECORD:
                    self._refuse(f"{where}: longer than {MOST_RECORD} bytes")
                try:
                    record = Record(**dict(_Line.model_validate(self._json(line, where))))
                except ValidationError as error:
                    self._refuse(f"{where}: {_in_words(error)}")
                if not _well_formed(record):
                    self._refuse(f"{where}: lacks labels, numbers or an environment that every record has")
                yield record

    def weights(self, trial_key: str) -> IO[bytes] | None:
        """The weights of a trial, to read."""
        try:
            return self.archive.open(f"weights/{trial_key}.safetensors")
        except KeyError:
            return None

    def _json(self, text: bytes, where: str) -> Any:
        try:
            value = json.loads(text)
            # Nothing that cannot be stored or shown: NaN, infinity, lone surrogates.
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            self._refuse(f"{where}: not JSON that a store can hold ({error})")
        if text.count(b"[") + text.count(b"{") > MOST_LEVELS and _is_deeper(value, MOST_LEVELS):
            self._refuse(f"{where}: nested too deeply")
        return value

    def _refuse(self, why: str) -> NoReturn:
        raise InputError(f"{self.file}: {why}; nothing was imported") from None


def _is_deeper(value: Any, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(child, levels - 1) for child in children)


def _in_words(error: ValidationError) -> str:
    path, problem = first_problem(error)
    return f"{'.'.join(str(part) for part in path)}: {problem}"


def _well_formed(record: Record) -> bool:
    return is_context(record.environment) and fits(
        record.key,
        record.kind,
        record.parent,
        record.status,
        record.labels,
        record.result,
        record.error,
        record.finished_at,
    )
